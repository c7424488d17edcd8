# The same addon as CMakeLists.txt, for node-gyp:
#   SRUM_LIBTORCH=<root of LibTorch> npx node-gyp rebuild
# or, into build-gyp/ beside a cmake-js build:  npm run build:gyp
{
  "variables": {
    "srum_root%": ".",
    "srum_libtorch%": "<!(node -p \"process.env.SRUM_LIBTORCH ?? ''\")",
    "srum_napi_version%": 2147483647,
    "srum_asan%": 0,
  },
  "targets": [
    {
      "target_name": "srum",
      "sources": [
        "<!@(node -p \"['cpp','cpp/kernels/cpu'].map((d)=>require('node:path').join('<(srum_root)',d)).filter((d)=>fs.existsSync(d)).flatMap((d)=>fs.readdirSync(d).filter((f)=>f.endsWith('.cpp')).sort().map((f)=>require('node:path').join(d,f))).join(' ')\")",
      ],
      "include_dirs": [
        "<(srum_root)/cpp",
        "<!(node -p \"require.resolve('node-addon-api/package.json').slice(0,-13)\")",
        "<!(node -p \"require('node-api-headers').include_dir\")",
      ],
      "defines": [
        "NAPI_EXPERIMENTAL",
        "NAPI_VERSION=<(srum_napi_version)",
        "NODE_ADDON_API_DISABLE_DEPRECATED",
        "NODE_ADDON_API_CPP_EXCEPTIONS",
        "SRUM_TORCH_VERSION=\"<!(node -p \"['headeronly','csrc/api/include/torch'].map((d)=>'<(srum_libtorch)/include/torch/'+d+'/version.h').filter((f)=>fs.existsSync(f)).map((f)=>[...fs.readFileSync(f,'utf8').matchAll(/define TORCH_VERSION_(?:MAJOR|MINOR|PATCH) ([0-9]+)/g)].map((m)=>m[1]).join('.')).filter(Boolean)[0]\")\"",
      ],
      "cflags!": ["-fno-exceptions"],
      "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17", "-std=gnu++20"],
      "cflags": ["-O2", "-fvisibility=hidden", "-fopenmp", "-Wno-unused-parameter"],
      "cflags_cc": [
        "-std=c++20",
        "-fvisibility-inlines-hidden",
        # LibTorch's own headers are not ours to warn about.
        "-isystem <(srum_libtorch)/include",
        "-isystem <(srum_libtorch)/include/torch/csrc/api/include",
      ],
      "libraries": ["-L<(srum_libtorch)/lib", "-lc10", "-ltorch_cpu"],
      "xcode_settings": {
        "GCC_ENABLE_CPP_EXCEPTIONS": "YES",
        "GCC_ENABLE_CPP_RTTI": "YES",
        "CLANG_CXX_LANGUAGE_STANDARD": "c++20",
        "GCC_SYMBOLS_PRIVATE_EXTERN": "YES",
        "OTHER_CPLUSPLUSFLAGS": [
          "-isystem", "<(srum_libtorch)/include",
          "-isystem", "<(srum_libtorch)/include/torch/csrc/api/include",
        ],
      },
      "conditions": [
        ["srum_asan==1", {
          "cflags": ["-fsanitize=address", "-fno-omit-frame-pointer", "-g"],
          "ldflags": ["-fsanitize=address"],
        }],
      ],
    },
  ],
}
