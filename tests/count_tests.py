# SPDX-License-Identifier: Apache-2.0
"""count_tests.py LOG JUNIT: counts single test cases of a ctest run and says which failed and which were skipped, and why.

LOG is ctest's LastTest.log, JUNIT what --output-junit wrote. A GoogleTest program counts case by case, from its output; any
other test counts once. A program that ends badly without naming a failed case counts as one failure. Prints lines for a
reader, then `P passed, F failed, S skipped`; exits 1 if anything failed or nothing ran."""
import re
import sys
import xml.etree.ElementTree as xml

CASE = re.compile(r"^\[\s+(OK|FAILED|SKIPPED)\s+\] (\S+?),? .*\(\d+ ms\)$")


def outputs(log):
    """ctest's name of each test -> what it printed."""
    found, name, lines = {}, None, []
    for line in log.splitlines():
        start = re.match(r"^\d+/\d+ Test(?:ing)?: (.*)$", line)
        if start:
            name, lines = start.group(1), []
            found[name] = lines
        elif name is not None:
            lines.append(line)
    return found


def cases(lines):
    """(state, name, reason) of every GoogleTest case in a program's output. The reason is what it printed when skipping."""
    reason, result = [], []
    for line in lines:
        line = re.sub(r"\x1b\[[0-9;]*m", "", line)
        match = CASE.match(line)
        if line.startswith("[ RUN "):
            reason = []
        elif match:
            result.append((match.group(1), match.group(2), " ".join(reason)))
        elif line.strip() and not line.rstrip().endswith(": Skipped"):
            reason.append(line.strip())
    return result


def main():
    log_path, junit_path = sys.argv[1:]
    with open(log_path, errors="replace") as file:
        output_of = outputs(file.read())
    counts = {"OK": 0, "FAILED": 0, "SKIPPED": 0}

    def count(state, name, reason):
        counts[state] += 1
        if state != "OK":
            print(f"{state.lower()}: {name}" + (f" ({reason})" if state == "SKIPPED" and reason else ""))

    for test in xml.parse(junit_path).getroot().iter("testcase"):
        name, status = test.get("name"), test.get("status")
        inner = cases(output_of.get(name, []))
        for state, case, reason in inner:
            count(state, f"{name}: {case}", reason)
        if status == "run":
            if not inner:
                count("OK", name, "")
        elif status == "fail":
            if all(state != "FAILED" for state, _, _ in inner):
                count("FAILED", name, "")
        else:
            count("SKIPPED", name, "ctest did not run it: " + status)
    print(f"{counts['OK']} passed, {counts['FAILED']} failed, {counts['SKIPPED']} skipped")
    return 1 if counts["FAILED"] or not counts["OK"] else 0


sys.exit(main())
