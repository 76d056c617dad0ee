#!/usr/bin/env bash
# Real peers and validators for the tests, from Debian. Only as root; otherwise the tests that need
# them say so and skip (and fail in CI).
set -euo pipefail
wanted=(orthanc orthanc-dicomweb dcmtk dicom3tools plastimatch pixelmed-apps postgresql chromium poppler-utils)
# The viewer's own packages are read with Node; any that is installed already will do.
command -v node >/dev/null && command -v npm >/dev/null || wanted+=(nodejs npm)
# PixelMed's checker is run over many reports at once by a small program, compiled when it is run.
command -v javac >/dev/null || wanted+=(default-jdk-headless)
missing=()
for package in "${wanted[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ "${#missing[@]}" -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "peers not installed (need root and apt-get): ${missing[*]}; tests that need them will skip"
  exit 0
fi
# A service would take the peers' standard ports; the tests start their own processes.
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
