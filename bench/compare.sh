#!/usr/bin/env bash
# Compares the working tree with another commit: make bench-compare. The commit is BASE; the
# default is main, or the parent of HEAD if the working tree is main without changes.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${KCAGENT_BENCH_OUT:-$PWD/dist/compare}
base=${BASE:-}
if [ -z "$base" ]; then
	base=$(git rev-parse --verify -q main || git rev-parse --verify origin/main)
	if [ -z "$(git status --porcelain)" ] && [ "$base" = "$(git rev-parse HEAD)" ]; then
		base=HEAD~1
	fi
fi
base=$(git rev-parse --short "$base^{commit}")
work=$(mktemp -d)
trap 'git worktree remove --force "$work/base" 2>/dev/null; rm -rf "$work"' EXIT
echo "old: $(git log -1 --format='%h %s' "$base")"
echo "new: the working tree, at $(git log -1 --format='%h %s')"
git worktree add -q --detach "$work/base" "$base"
(cd "$work/base" && CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$work/old" .)
CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$work/new" .
mkdir -p "$out"
KCAGENT_REQUIRE_KAFKA=1 KCAGENT_BENCH_OLD="$work/old" KCAGENT_BENCH_NEW="$work/new" KCAGENT_BENCH_OUT="$out" \
	go test -run '^$' -bench Builds -benchtime 1x -timeout 90m ./bench
go run golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da old="$out/old.txt" new="$out/new.txt"
