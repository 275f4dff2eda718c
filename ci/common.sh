# What `ci/start` and `ci/test` share: installing what is missing. Sourced, never run.
# It asks nothing, reads nothing from standard input, and touches the system only through apt-get.

say() { printf '\n== %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }

cache="${XDG_CACHE_HOME:-$HOME/.cache}/snug-ci"
export PATH="$cache/tools/bin:$HOME/.cargo/bin:/usr/sbin:$PATH"

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

apt_fresh=no

# install COMMAND PACKAGE...: installs the packages when the command is missing. Fails with one sentence that says what to do.
install() {
  command_name=$1
  shift
  have "$command_name" && return 0
  if ! have apt-get; then
    echo "missing: $command_name. This script installs packages on Debian and Ubuntu only; install it and run the script again." >&2
    return 1
  fi
  if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
    echo "missing: $command_name. Run this as root or a user who may use sudo without a password, or first: apt-get install $*" >&2
    return 1
  fi
  if [ "$apt_fresh" = no ]; then
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null || true
    apt_fresh=yes
  fi
  say "installing $*"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null || {
    echo "apt-get could not install $*. Install $command_name by hand and run the script again." >&2
    return 1
  }
}

# install_library NAME PACKAGE: installs a C library's headers unless pkg-config finds them.
install_library() {
  install pkg-config pkg-config || return 1
  pkg-config --exists "$1" && return 0
  # The command's name stands for the library here: there is none of that name, so the package is installed.
  install "library-$1" "$2"
}

# The workspace's rust-version, and whether the compiler at hand is at least that.
rust_wanted() { sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml; }
rust_is_enough() {
  have cargo || return 1
  oldest=$(printf '%s\n%s\n' "$(rust_wanted)" "$(rustc --version | cut -d' ' -f2)" | sort -V | head -n1)
  [ "$oldest" = "$(rust_wanted)" ]
}

# A Rust toolchain: the one at hand, else the distribution's, else its rustup, else a sentence that says where to get one.
need_rust() {
  rust_is_enough && return 0
  if have apt-get; then
    if apt-cache show rustup >/dev/null 2>&1; then
      install rustup rustup && rustup default stable </dev/null
    elif ! have cargo; then
      install cargo cargo rustc || true
    fi
  fi
  rust_is_enough && return 0
  echo "Snug needs Rust $(rust_wanted) or newer, and this system offers none. Install it with rustup (https://rustup.rs), then run this again." >&2
  return 1
}
