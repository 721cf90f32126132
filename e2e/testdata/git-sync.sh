#!/usr/bin/env bash
# Does what git-sync does: each commit is checked out into a worktree of its own,
# a link leads to the current one and is replaced in one step, and the worktree
# before it is removed afterwards.
# usage: git-sync.sh ROOT < consumers.yaml, followed at ROOT/current/consumers.yaml
set -euo pipefail
root=$1
export GIT_AUTHOR_NAME=test GIT_AUTHOR_EMAIL=test@localhost GIT_COMMITTER_NAME=test GIT_COMMITTER_EMAIL=test@localhost
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
upstream=$root/upstream repo=$root/repo
if [ ! -d "$upstream" ]; then
	git init -q -b main "$upstream"
fi
cat > "$upstream/consumers.yaml"
git -C "$upstream" add consumers.yaml
git -C "$upstream" commit -q --allow-empty -m change
[ -d "$repo" ] || git clone -q --no-checkout "$upstream" "$repo"
git -C "$repo" fetch -q origin main
commit=$(git -C "$repo" rev-parse FETCH_HEAD)
git -C "$repo" worktree add -q --detach "$root/.worktrees/$commit" "$commit"
old=$(readlink "$root/current" || true)
ln -s ".worktrees/$commit" "$root/current.tmp"
mv -T "$root/current.tmp" "$root/current"
[ -z "$old" ] || git -C "$repo" worktree remove --force "$root/$old"
