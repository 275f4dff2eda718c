# What `ci/start` and `ci/test` share: installing what is missing. Sourced, never run.
# It asks nothing, reads nothing from standard input, and touches the system only through apt-get.

say() { printf '\n== %s\n' "$*"; }

cache="${XDG_CACHE_HOME:-$HOME/.cache}/snug-ci"
export PATH="$cache/tools/bin:$HOME/.cargo/bin:/usr/sbin:/sbin:$PATH"

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Probes. Each one asks for what will really be used: a name that is there says little about the rest of its package.

# have COMMAND...: all of them can be started.
have() {
  local name
  for name in "$@"; do command -v "$name" >/dev/null 2>&1 || return 1; done
}

# The C compiler that cargo links with, and the C library's headers and start files, which its package only recommends.
has_c() { builds cc c '#include <stdio.h>
int main(void) { return puts("") < 0; }'; }
has_cxx() { builds c++ c++ '#include <vector>
int main() { return std::vector<int>(1).at(0); }'; }
builds() {
  have "$1" || return 1
  local program
  program=$(mktemp) || return 1
  printf '%s\n' "$3" | "$1" -x "$2" - -o "$program" 2>/dev/null
  set -- $?
  rm -f "$program"
  return "$1"
}

# has_headers LIBRARY: pkg-config knows the library's headers.
has_headers() { have pkg-config && pkg-config --exists "$1"; }

# libclang as bindgen loads it (the C interface; libclang-cpp is another library), and the compiler's own headers beside it.
has_libclang() {
  local folder file found=no
  for folder in ${LIBCLANG_PATH:+"$LIBCLANG_PATH"} /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu* /usr/lib64 /usr/lib /usr/local/lib; do
    for file in "$folder"/libclang.so "$folder"/libclang.so.[0-9]* "$folder"/libclang-[0-9]*.so*; do
      [ -f "$file" ] && found=yes
    done
  done
  [ "$found" = yes ] || return 1
  for folder in ${LIBCLANG_PATH:+"$LIBCLANG_PATH"/clang/*/include} /usr/lib/llvm-*/lib/clang/*/include /usr/lib*/clang/*/include /usr/local/lib/clang/*/include; do
    [ -f "$folder/stddef.h" ] && return 0
  done
  return 1
}

# A Python that makes environments with pip in them, and the headers that its packages in C need.
has_python() {
  have python3 && python3 -c 'import ensurepip, os, sysconfig, venv
open(os.path.join(sysconfig.get_paths()["include"], "Python.h"))' 2>/dev/null
}

# need PROBE PACKAGE...: installs the packages unless the probe, a command of words, succeeds; then it has to.
# Fails with one sentence that says what to do.
need() {
  local probe=$1
  shift
  $probe && return 0
  install "$@" || return 1
  hash -r
  $probe && return 0
  echo "missing even with the packages $* installed: \`$probe\` fails. Repair these packages and run the script again." >&2
  return 1
}

apt_fresh=no
# Brings the lists of packages up to date, once: a new machine or container often has none.
refresh_packages() {
  [ "$apt_fresh" = no ] || return 0
  apt_fresh=yes
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq -o DPkg::Lock::Timeout=300 </dev/null || true
}

# install PACKAGE...: from Debian or Ubuntu.
install() {
  if ! have apt-get; then
    echo "missing: $*. This script installs packages on Debian and Ubuntu only; install what these packages hold and run the script again." >&2
    return 1
  fi
  if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
    echo "missing: $*. Run this as root or a user who may use sudo without a password, or first: apt-get install $*" >&2
    return 1
  fi
  refresh_packages
  say "installing $*"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o DPkg::Lock::Timeout=300 --no-install-recommends "$@" </dev/null >/dev/null || {
    echo "apt-get could not install $*. Install it by hand and run the script again." >&2
    return 1
  }
}

# candidate PACKAGE: the version that apt-get would install, without its epoch and Debian's own part; fails when there is none.
candidate() {
  local version
  version=$(LC_ALL=C apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: //p')
  case "$version" in '' | '(none)') return 1 ;; esac
  version=${version#*:}
  printf '%s\n' "${version%%[-+~]*}"
}

# at_least VERSION WANTED
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n1)" = "$2" ]; }

# The workspace's rust-version, and whether the toolchain at hand is at least that. Rustup's commands are there without a toolchain, too.
rust_wanted() { sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml; }
rust_is_enough() {
  local tool version
  for tool in cargo rustc; do
    version=$("$tool" --version 2>/dev/null) || return 1
    at_least "$(printf '%s' "$version" | cut -d' ' -f2)" "$(rust_wanted)" || return 1
  done
}

# A Rust toolchain: the one at hand, else rustup's, else one that the distribution carries, else a sentence that says where to get one.
need_rust() {
  rust_is_enough && return 0
  if have apt-get && ! have rustup; then
    refresh_packages
    if candidate rustup >/dev/null; then install rustup || true; fi
  fi
  if have rustup && rustup toolchain install stable --profile minimal </dev/null; then
    export RUSTUP_TOOLCHAIN=stable
    hash -r
  fi
  rust_is_enough && return 0
  # Debian backports the compiler that Chromium and Firefox are built with into its stable releases, as rustc-web.
  if have apt-get; then
    local suffix version
    refresh_packages
    for suffix in '' -web; do
      version=$(candidate "rustc$suffix") && at_least "$version" "$(rust_wanted)" || continue
      install "cargo$suffix" "rustc$suffix" || continue
      hash -r
      rust_is_enough && return 0
    done
  fi
  echo "Snug needs Rust $(rust_wanted) or newer, and this system offers none. Install it with rustup (https://rustup.rs), then run this again." >&2
  return 1
}

# need_rust_tool COMMAND COMPONENT PACKAGE WEB-PACKAGE: what belongs to the toolchain in use, from where that is from.
need_rust_tool() {
  cargo "$1" --version >/dev/null 2>&1 && return 0
  if have rustup && rustup which cargo >/dev/null 2>&1; then
    rustup component add "$2" </dev/null
  elif have dpkg-query && dpkg-query -W rustc-web >/dev/null 2>&1; then
    install "$4"
  else
    install "$3"
  fi
  cargo "$1" --version >/dev/null 2>&1
}
