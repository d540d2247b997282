#!/usr/bin/env bash
# build.sh FOLDER: the two small libraries of the pretend device. PYTHON names the interpreter whose torch is to be deceived. It says on
# one line why that cannot be (no gcc, a torch without CUDA) and ends with status 3.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
py=${PYTHON:-python3}
out=$1
reason() { echo "no pretend device: $*"; exit 3; }
command -v gcc >/dev/null || reason "gcc is missing"
version=$("$py" -c "import torch; print(torch.__version__, torch.version.cuda or '')" 2>/dev/null) || reason "torch is missing"
[ "${version% }" = "$version" ] || reason "torch ${version% } is not a CUDA build"
inc=$("$py" -c "
import pathlib, nvidia
print(next((str(p) for r in nvidia.__path__ for p in pathlib.Path(r).glob('cu*/include') if (p/'cuda_runtime_api.h').exists()), ''))" 2>/dev/null) || inc=
[ -n "$inc" ] || reason "the headers of the CUDA runtime, which come with torch from PyPI, are missing"
mkdir -p "$out"
gcc -O1 -shared -fPIC -w -I"$inc" -I"$here" -o "$out/libshim.so" "$here/shim.c" -ldl -lpthread
gcc -shared -fPIC -w -I"$inc" -I"$here" -o "$out/libcuda.so.1" "$here/libcuda.c"
