// SPDX-License-Identifier: Apache-2.0
#include "support/run_program.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/error.hpp"

namespace spillway::test {
namespace {

/// A file in memory: unlike a pipe it never fills up, and nobody has to read it while the program runs.
int memory_file(const char* name, const std::string& content) {
  const int file = memfd_create(name, MFD_CLOEXEC);
  if (file < 0) throw IoError("memfd_create", errno);
  for (std::size_t done = 0; done < content.size();) {
    const ssize_t written = ::write(file, content.data() + done, content.size() - done);
    if (written < 0) throw IoError("writing a program's input", errno);
    done += static_cast<std::size_t>(written);
  }
  ::lseek(file, 0, SEEK_SET);
  return file;
}

std::string content_of(int file) {
  std::string content;
  std::array<char, 65536> buffer{};
  for (off_t at = 0;;) {
    const ssize_t count = ::pread(file, buffer.data(), buffer.size(), at);
    if (count <= 0) return content;
    content.append(buffer.data(), static_cast<std::size_t>(count));
    at += count;
  }
}

std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> children;
  std::error_code error;
  for (std::filesystem::directory_iterator entry("/proc", error), end; !error && entry != end; entry.increment(error)) {
    const pid_t pid = std::atoi(entry->path().filename().c_str());
    if (pid <= 0) continue;
    std::ostringstream text;
    text << std::ifstream(entry->path() / "stat").rdbuf();
    // pid (name) state parent ...; the name may hold anything.
    const std::size_t name_end = text.str().rfind(')');
    if (name_end == std::string::npos) continue;
    std::istringstream rest(text.str().substr(name_end + 1));
    char state = 0;
    pid_t found = 0;
    if (rest >> state >> found && found == parent && state != 'Z') children.push_back(pid);
  }
  return children;
}

void append_descendants(pid_t parent, std::vector<pid_t>& descendants) {
  for (const pid_t child : children_of(parent)) {
    descendants.push_back(child);
    append_descendants(child, descendants);
  }
}

[[noreturn]] void become(const ProgramCall& call, std::array<int, 3> streams) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::setpgid(0, 0);
  for (int stream = 0; stream < 3; ++stream) ::dup2(streams[static_cast<std::size_t>(stream)], stream);
  if (::chdir(call.directory.c_str()) != 0) ::_exit(126);
  for (const auto& [name, value] : call.environment) ::setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> arguments;
  for (const std::string& argument : call.command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  ::execvp(arguments[0], arguments.data());
  ::_exit(127);
}

}  // namespace

Program::Program(const ProgramCall& call) : out_(memory_file("out", {})), err_(memory_file("err", {})) {
  const int in = memory_file("in", call.input);
  pid_ = ::fork();
  if (pid_ == 0) become(call, {in, out_, err_});
  ::close(in);
  if (pid_ < 0) throw IoError("fork", errno);
}

Program::~Program() {
  if (!ended_) {
    kill_all();
    ::waitpid(pid_, nullptr, 0);
  }
  ::close(out_);
  ::close(err_);
}

void Program::kill_all() const {
  // A launcher puts its ranks into groups of their own.
  std::vector<pid_t> descendants;
  append_descendants(pid_, descendants);
  ::kill(-pid_, SIGKILL);
  for (const pid_t descendant : descendants) ::kill(descendant, SIGKILL);
}

std::vector<pid_t> Program::children() const { return children_of(pid_); }
std::string Program::err() const { return content_of(err_); }

ProgramResult Program::wait(std::chrono::seconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  int status = 0;
  for (;;) {
    if (::waitpid(pid_, &status, WNOHANG) == pid_) break;
    if (std::chrono::steady_clock::now() > deadline) {
      kill_all();
      ::waitpid(pid_, &status, 0);
      ADD_FAILURE() << "the program ran longer than " << timeout.count() << " s and was killed\n" << err();
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  ended_ = true;
  ::kill(-pid_, SIGKILL);  // helpers of the launcher that outlived it
  const int exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return {.exit_code = exit_code, .out = content_of(out_), .err = content_of(err_)};
}

ProgramResult run_program(const ProgramCall& call, std::chrono::seconds timeout) {
  Program program(call);
  return program.wait(timeout);
}

ProgramCall on_ranks(int ranks, std::vector<std::string> command) {
  ProgramCall call{.command = std::move(command)};
  call.environment = {{"OPENBLAS_NUM_THREADS", "1"},
                      {"OMPI_ALLOW_RUN_AS_ROOT", "1"},
                      {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
                      {"OMPI_MCA_rmaps_base_oversubscribe", "1"},
                      {"OMPI_MCA_hwloc_base_binding_policy", "none"},
                      {"OMPI_MCA_btl_vader_single_copy_mechanism", "none"},
                      // Shared memory only: to look for networks would take most of the time of these short runs.
                      {"OMPI_MCA_pml", "ob1"},
                      {"OMPI_MCA_btl", "self,vader"},
                      {"OMPI_MCA_osc", "^ucx"},
                      {"OMPI_MCA_ess_singleton_isolated", "1"},
                      // mpirun's wait for the other ranks when one has ended with a code that is not 0: two seconds.
                      {"OMPI_MCA_odls_base_sigkill_timeout", "0"}};
  if (ranks > 1)
    call.command.insert(call.command.begin(), {SPILLWAY_MPIEXEC, SPILLWAY_MPIEXEC_NUMPROC_FLAG, std::to_string(ranks)});
  return call;
}

}  // namespace spillway::test
