# How `ci/test` comes by a standard library for WebAssembly, a target without an operating system. Sourced, never run.
#
# The toolchain in use may have it, or its sources. Otherwise Debian's packages of the compiler and of its sources
# are unpacked, not installed, into the cache folder: beside rustup's toolchain Debian's compiler has no place in the system, and
# sources fit no compiler but their own. `cargo ci check` looks there.

WASM=wasm32-unknown-unknown
wasm_rust="$cache/wasm-rust"

# has_wasm RUSTC: it can compile for WebAssembly, with the library as it is or from its sources.
has_wasm() {
  local sysroot
  [ -d "$("$1" --print target-libdir --target "$WASM" 2>/dev/null)" ] && return 0
  sysroot=$("$1" --print sysroot 2>/dev/null) && [ -f "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ]
}

need_wasm() {
  has_wasm rustc && return 0
  if have dpkg-query && dpkg-query -W rustc-web >/dev/null 2>&1; then
    install rust-web-src && has_wasm rustc && return 0
  fi
  if [ -x "$wasm_rust/rustc" ] && has_wasm "$wasm_rust/rustc" && at_least "$("$wasm_rust/rustc" --version | cut -d' ' -f2)" "$(rust_wanted)"; then
    return 0
  fi
  unpack_wasm_rust && has_wasm "$wasm_rust/rustc"
}

unpack_wasm_rust() {
  local version names folder
  have apt-get dpkg-deb || return 1
  refresh_packages
  version=$(candidate rustc-web) && at_least "$version" "$(rust_wanted)" || return 1
  say "unpacking Debian's Rust $version and its sources into $wasm_rust"
  rm -rf "$wasm_rust"
  mkdir -p "$wasm_rust/packages" && folder=$(readlink -f "$wasm_rust") || return 1
  # The compiler, the libraries it is made of, the library of this machine (build scripts and macros run here), and the sources.
  names=$(LC_ALL=C apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances rustc-web |
    grep -E '^(rustc-web|libstd-rust-web-[0-9.]+|libstd-rust-web-dev|libllvm[0-9]+|libedit2|libbsd0|libmd0|libtinfo6|libxml2|libicu[0-9]+|libz3-4|libffi8|zlib1g|libzstd1)(:|$)' | sort -u)
  (cd "$folder/packages" && apt-get download -qq $names rust-web-src </dev/null >/dev/null 2>&1) || return 1
  for package in "$folder"/packages/*.deb; do dpkg-deb -x "$package" "$folder" || return 1; done
  rm -rf "$folder/packages"
  printf '#!/bin/sh\nfolder=%s\nLD_LIBRARY_PATH=$(ls -d "$folder"/usr/lib/*-linux-gnu* "$folder"/lib/*-linux-gnu* "$folder"/usr/lib/llvm-*/lib 2>/dev/null | tr "\\n" :) exec "$folder/usr/bin/rustc" "$@"\n' "$folder" >"$folder/rustc"
  chmod +x "$folder/rustc"
}
