#!/usr/bin/env bash
# Does what kubelet's AtomicWriter does to a ConfigMap volume: the files of a
# version lie in a folder of their own, a link named ..data leads to it and is
# replaced in one step, and the old folder is removed at once.
# usage: atomic-writer.sh VOLUME < consumers.yaml
set -euo pipefail
volume=$1
version=$(mktemp -d "$volume/..$(date -u +%Y_%m_%d_%H_%M_%S).XXXXXXXXXX")
chmod 0755 "$version"
cat > "$version/consumers.yaml"
chmod 0644 "$version/consumers.yaml"
old=$(readlink "$volume/..data" || true)
ln -s "$(basename "$version")" "$volume/..data_tmp"
mv -T "$volume/..data_tmp" "$volume/..data"
[ -L "$volume/consumers.yaml" ] || ln -s ..data/consumers.yaml "$volume/consumers.yaml"
[ -z "$old" ] || rm -r "${volume:?}/$old"
