#!/usr/bin/env bash
# The commands of nbdev 3 under the names and with the options of nbdev 2: `nbdev_test --path X --do_print` is
# `nbdev-test X --do-print`. `make names` puts a copy of this beside each command; the name says which one it is.
args=()
for a in "$@"; do
    case $a in
        --path) ;;
        --path=*) args+=("${a#--path=}") ;;
        --*=*) name=${a%%=*} && args+=("${name//_/-}=${a#*=}") ;;
        --*) args+=("${a//_/-}") ;;
        *) args+=("$a") ;;
    esac
done
name=$(basename "$0")
exec "$(dirname "$0")/${name//_/-}" "${args[@]}"
