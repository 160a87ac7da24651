# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Sourced by the scripts beside it.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.."
state=.sandbox
cache=$(realpath -m "${LLMOPS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/llmops-fleet}")
me=$(basename "$0")

say() { printf '[%s] %s\n' "$me" "$*" >&2; }
die() { printf '%s: %s\n' "$me" "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }
engine_answers() { curl -fsS --max-time 5 --unix-socket /var/run/docker.sock http://docker/_ping >/dev/null 2>&1; }

# Only one of setup, up and down at a time in this checkout.
lock() {
    mkdir -p "$state" && chmod 700 "$state"
    exec 9>"$state/lock"
    flock -n 9 || { say "another run holds $state/lock; waiting for it ..."; flock 9; }
}
