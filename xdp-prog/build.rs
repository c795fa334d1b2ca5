//! Compiles `steer.bpf.c` with clang and writes its Rust skeleton into `OUT_DIR`.

use std::env;
use std::path::{Path, PathBuf};

use libbpf_cargo::SkeletonBuilder;

const SOURCE: &str = "src/steer.bpf.c";
const HEADERS: [&str; 7] = [
    "src/icmp.bpf.h",
    "src/parse.bpf.h",
    "src/shared.h",
    "src/syn_gate.bpf.h",
    "src/syn_hash.bpf.h",
    "src/syn_memory.bpf.h",
    "src/syn_sources.bpf.h",
];

fn main() {
    let out =
        PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("steer.skel.rs");
    for file in HEADERS.iter().chain([&SOURCE]) {
        println!("cargo::rerun-if-changed={file}");
    }

    let mut clang_args: Vec<String> = ["-Wall", "-Wextra", "-Werror", "-mcpu=v3"]
        .map(String::from)
        .to_vec();
    clang_args.extend(multiarch_include().map(|dir| format!("-I{dir}")));

    if let Err(error) = SkeletonBuilder::new()
        .source(SOURCE)
        .clang_args(clang_args)
        .build_and_generate(&out)
    {
        eprintln!("cannot build {SOURCE}: {error:#}");
        eprintln!(
            "it needs clang, libelf and the kernel headers: apt-get install clang libelf-dev zlib1g-dev linux-libc-dev"
        );
        std::process::exit(1);
    }
}

/// Debian keeps `asm/types.h`, which `linux/bpf.h` includes, in a directory of the architecture that clang does not search
/// when it compiles for the `bpf` target.
fn multiarch_include() -> Option<String> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    let dir = format!("/usr/include/{arch}-linux-gnu");
    Path::new(&dir).is_dir().then_some(dir)
}
