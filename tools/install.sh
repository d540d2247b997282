#!/usr/bin/env bash
# tools/install.sh PYTHON REQUIREMENTS...: installs into the environment of PYTHON with uv, which unpacks torch's gigabytes on all
# cores in a third of pip's time, under the settings that pip has (index, links, constraints, certificates). Where uv cannot be had, or
# cannot find what pip can, pip does it.
set -euo pipefail
py=$1
shift
# Not `pip config get`, which forgets one of two files.
of_pip() { "$py" -m pip config list 2>/dev/null | sed -n "s/^global\.$1='\(.*\)'\$/\1/p"; }
bin=$(dirname "$py")
cache=$(dirname "$bin")/.uv # beside the environment, so that files are linked, not copied; removed at the end
links=${PIP_FIND_LINKS:-$(of_pip find-links)} index=${PIP_INDEX_URL:-$(of_pip index-url)}
constraint=${PIP_CONSTRAINT:-$(of_pip constraint)} cert=${PIP_CERT:-$(of_pip cert)}
trap 'rm -rf "$cache"' EXIT
with_uv() {
    "$py" -m pip install --quiet uv || return
    VIRTUAL_ENV=$(dirname "$bin") UV_CACHE_DIR=$cache ${links:+env UV_FIND_LINKS="$links"} ${index:+env UV_DEFAULT_INDEX="$index"} \
        ${constraint:+env UV_CONSTRAINT="$constraint"} ${cert:+env SSL_CERT_FILE="$cert"} "$bin/uv" pip install --quiet "$@"
}
with_uv "$@" || { echo "uv did not do it: pip does"; "$py" -m pip install --quiet --no-compile "$@"; } # what is imported is compiled then
