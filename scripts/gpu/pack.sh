#!/bin/sh
# Packs what a machine without Node and without a network needs for scripts/gpu/check.sh:
# Node itself (stripped), the packages the tests use, and the compiled TypeScript.
#
#   scripts/gpu/pack.sh [FOLDER]        default: build/gpu-carry
set -eu
cd "$(dirname "$0")/../.."
out=${1:-build/gpu-carry}
[ -f dist/scripts/setup.js ] || { echo "pack.sh: dist/ is missing; run npm run setup first" >&2; exit 1; }
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cp "$(node -p process.execPath)" "$work/node"
strip --strip-unneeded "$work/node" || true
xz -9e -T0 -c "$work/node" >"$out/node.xz"

# Compilers and linters stay at home, and so does what only editors and browsers read.
tar -C . -c --exclude='*.d.ts' --exclude='*.d.mts' --exclude='*.d.cts' --exclude='*.map' --exclude='*.md' \
  --exclude='node_modules/.cache' --exclude='node_modules/.bin' \
  --exclude='node_modules/@biomejs' --exclude='node_modules/@tsd' --exclude='node_modules/tsd' \
  --exclude='node_modules/typescript' --exclude='node_modules/@types' --exclude='node_modules/@wasm-fmt' \
  --exclude='node_modules/node-gyp' --exclude='node_modules/dependency-cruiser' --exclude='node_modules/undici' \
  --exclude='node_modules/echarts/lib' --exclude='node_modules/echarts/i18n' --exclude='node_modules/echarts/theme' \
  --exclude='node_modules/apache-arrow/src' --exclude='node_modules/apache-arrow/*.es2015*' \
  --exclude='node_modules/@img/*musl*' \
  node_modules | xz -6 -T0 -c >"$out/node_modules.tar.xz"

tar -c --exclude='*.d.ts' --exclude='*.map' --exclude='dist/.*' dist | xz -6 -T0 -c >"$out/dist.tar.xz"
du -h "$out"/node.xz "$out"/node_modules.tar.xz "$out"/dist.tar.xz
