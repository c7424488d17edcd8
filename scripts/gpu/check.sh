#!/bin/bash
# Builds, tests and benchmarks on a CUDA machine that has a Python torch with headers, nvcc, cmake and ninja, but neither
# Node nor a network. See docs/gpu.md.
#
#   scripts/gpu/check.sh [--node FILE] [--node-modules PATH] [--dist PATH] [--python PROGRAM] [--arch LIST]
#                        [--out FOLDER] [--goldens FOLDER] [--bench NAMES] [--skip-tests]
#
#   --node           Node: a program, a .xz of it, or an official .tar.xz     (default: build/gpu-carry/node.xz, else node)
#   --node-modules   a node_modules folder or a .tar.xz of it                 (default: build/gpu-carry/node_modules.tar.xz)
#   --dist           a dist folder or a .tar.xz of it                         (default: build/gpu-carry/dist.tar.xz)
#   --python         the Python that has torch                                (default: python3)
#   --arch           CUDA architectures for CMake                             (default: those of the GPUs present)
#   --out            where the tables go                                      (default: docs/results)
#   --goldens        a golden folder to run as well
#   --bench          benches to run, separated by commas                      (default: all)
#   --skip-tests     only build and benchmark
set -uo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
node=build/gpu-carry/node.xz modules=build/gpu-carry/node_modules.tar.xz dist=build/gpu-carry/dist.tar.xz
python=python3 arch='' out=docs/results goldens='' benches='' tests=1

usage() { sed -n '2,19s/^# \{0,1\}//p' "$0"; }
while [ $# -gt 0 ]; do
  case $1 in
    --node) node=$2; shift 2 ;;
    --node-modules) modules=$2; shift 2 ;;
    --dist) dist=$2; shift 2 ;;
    --python) python=$2; shift 2 ;;
    --arch) arch=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --goldens) goldens=$2; shift 2 ;;
    --bench) benches=$2; shift 2 ;;
    --skip-tests) tests=0; shift ;;
    -h | --help) usage; exit 0 ;;
    *) echo "check.sh: unknown option $1" >&2; usage >&2; exit 2 ;;
  esac
done

fail() { echo "check.sh: $*" >&2; exit 1; }
say() { echo "== $*"; }
# xz may be missing where Python is not.
unxz() {
  if command -v xz >/dev/null; then xz -dc "$1"; else
    "$python" -c 'import lzma,shutil,sys; shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer)' "$1"
  fi
}
# Folders that were not carried as archives are used where they lie.
unpack_folder() { # PATH NAME
  case $1 in
    *.tar.xz) [ -f "$1" ] && { unxz "$1" | tar -x -C "$root"; return; } ;;
    *) [ -d "$1" ] && { [ "$(realpath "$1")" = "$root/$2" ] || ln -sfn "$(realpath "$1")" "$root/$2"; return; } ;;
  esac
  [ -d "$root/$2" ] || fail "$2 not found: pack it with scripts/gpu/pack.sh, or pass --${2/_/-}"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p build/gpu "$out"

say "unpacking"
case $node in
  *.tar.xz) unxz "$node" | tar -x -C "$work" && ln -s "$(find "$work" -path '*/bin/node' | head -n 1)" "$work/node" ;;
  *.xz) if [ -f "$node" ]; then unxz "$node" >"$work/node"; else ln -s "$(command -v node)" "$work/node"; fi ;;
  *) ln -s "$(command -v "$node")" "$work/node" ;;
esac
chmod +x "$work/node" 2>/dev/null
export PATH="$work:$PATH"
node --version >/dev/null 2>&1 || fail "Node does not run: $node"
unpack_folder "$modules" node_modules
unpack_folder "$dist" dist

say "looking for torch"
torch=$(cd / && "$python" -c 'import importlib.util as u; s=u.find_spec("torch"); print(s.submodule_search_locations[0])') ||
  fail "$python has no torch"
[ -f "$torch/lib/libtorch_cuda.so" ] || fail "$torch is not a CUDA build"
export SRUM_LIBTORCH=$torch SRUM_PYTHON=$python SRUM_CACHE=$work/cache SRUM_ADDON=$root/build/gpu/Release/srum.node
command -v nvcc >/dev/null || for folder in /usr/local/cuda/bin /usr/local/cuda-*/bin; do
  [ -x "$folder/nvcc" ] && { export PATH="$PATH:$folder"; break; }
done
if [ -z "$arch" ]; then
  arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | tr -d . | sort -u | paste -sd ';' -)
fi

say "building against $torch for architectures $arch"
start=$(date +%s)
generator=(); command -v ninja >/dev/null && generator=(-G Ninja)
{
  cmake -S . -B build/gpu "${generator[@]}" -DSRUM_LIBTORCH="$torch" -DSRUM_CUDA=AUTO \
    -DSRUM_CUDA_ARCHITECTURES="$arch" -DSRUM_NODE_MODULES="$root/node_modules" &&
    cmake --build build/gpu --parallel "$(nproc)"
} >build/gpu/build.log 2>&1 || { tail -n 60 build/gpu/build.log; fail "the build failed; whole log in build/gpu/build.log"; }
seconds=$(($(date +%s) - start))
say "built in $seconds s"
node dist/lib/native/probe.js probe >"$work/probe.json" || fail "the addon does not load"

passed=0 failed=0
tally() { # LOG PATTERN_PASSED PATTERN_FAILED
  local p f
  p=$(sed 's/\x1b\[[0-9;]*m//g' "$1" | sed -n "s/$2/\1/p" | tail -n 1)
  f=$(sed 's/\x1b\[[0-9;]*m//g' "$1" | sed -n "s/$3/\1/p" | tail -n 1)
  # A run that ends without a summary has failed.
  [ -n "$p" ] || f=$((${f:-0} + 1))
  passed=$((passed + ${p:-0})) failed=$((failed + ${f:-0}))
}
if [ "$tests" = 1 ]; then
  say "tests"
  node node_modules/mocha/bin/mocha.js 2>&1 | tee "$work/tests.log" | tail -n 60
  tally "$work/tests.log" '^ *\([0-9]*\) passing.*' '^ *\([0-9]*\) failing.*'
fi
if [ -n "$goldens" ]; then
  say "goldens of $goldens"
  node dist/scripts/goldens.js "$goldens" 2>&1 | tee "$work/goldens.log" | tail -n 20
  tally "$work/goldens.log" '^\([0-9]*\) passed, [0-9]* failed$' '^[0-9]* passed, \([0-9]*\) failed$'
fi

[ -n "$benches" ] || benches=$(cd dist/scripts/bench && ls -- *.js | sed 's/\.js$//' | paste -sd , -)
mkdir -p "$work/bench"
for name in ${benches//,/ }; do
  say "bench $name"
  node dist/scripts/bench.js "$name" --json >"$work/bench/$name.json" 2>"$work/bench/$name.err" || {
    tail -n 5 "$work/bench/$name.err"
    mv "$work/bench/$name.json" "$work/bench/$name.broken"
    failed=$((failed + 1))
  }
done

node dist/scripts/gpu/report.js --work "$work" --out "$out" --build-seconds "$seconds" --passed "$passed" --failed "$failed" ||
  fail "the tables could not be written"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
