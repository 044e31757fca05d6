#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# jobs/prepare-catalogue.sh OUT: real English-Romanian pairs and a tokenizer for them.
# The pairs are what the translators of LibreOffice wrote (package libreoffice-l10n-ro, MPL-2.0): downloaded, unpacked in a
# scratch folder, never installed. OUT gets {train,val,seen}.{source,target} and spiece.model; if it has them, nothing is done.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:?usage: jobs/prepare-catalogue.sh OUT}
package=libreoffice-l10n-ro
pieces=4000

[[ ! -f $out/spiece.model ]] || exit 0
mkdir -p "$(dirname "$out")"
scratch=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

download() {
  (cd "$scratch" && apt-get -q -o APT::Sandbox::User="$(id -un)" download "$package") >&2
}
if ! download; then
  # A machine whose package lists were never fetched, or are old.
  as_root=()
  [[ $(id -u) -eq 0 ]] || as_root=(sudo)
  if ! { "${as_root[@]}" apt-get -q update >&2 && download; }; then
    echo "prepare-catalogue.sh: $package cannot be downloaded: is the network there, and apt-get update done?" >&2
    exit 1
  fi
fi
dpkg-deb -x "$scratch/$package"_*.deb "$scratch/package"

mkdir "$scratch/po" "$scratch/data"
while IFS= read -r -d '' catalogue; do
  LC_ALL=C.UTF-8 msgunfmt --force-po --no-wrap "$catalogue" -o "$scratch/po/$(basename "$catalogue" .mo).po"
done < <(find "$scratch/package" -name '*.mo' -print0 | sort -z)
LC_ALL=C.UTF-8 python3 "$here/clean_catalogue.py" "$scratch/data" "$scratch"/po/*.po >&2

# T5's ids: 0 pads and starts, 1 ends, 2 is unknown. The held-out pairs are not shown to it.
if ! spm_train --input="$scratch/data/train.source,$scratch/data/train.target" --model_prefix="$scratch/data/spiece" \
  --model_type=unigram --vocab_size=$pieces --character_coverage=1.0 --pad_id=0 --eos_id=1 --unk_id=2 --bos_id=-1 \
  --minloglevel=1 >"$scratch/spm.log" 2>&1; then
  cat "$scratch/spm.log" >&2
  exit 1
fi
mkdir -p "$out"
mv "$scratch/data"/{train,val,seen}.{source,target} "$out"
mv "$scratch/data/spiece.model" "$out"
