//! Compiles `steer.bpf.c` and `catch.bpf.c` with clang and writes their Rust skeletons into `OUT_DIR`.

use std::env;
use std::path::{Path, PathBuf};

use libbpf_cargo::SkeletonBuilder;

/// The programs: each `src/NAME.bpf.c` becomes `NAME.skel.rs`.
const PROGRAMS: [&str; 2] = ["steer", "catch"];
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
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for header in HEADERS {
        println!("cargo::rerun-if-changed={header}");
    }

    let mut clang_args: Vec<String> = ["-Wall", "-Wextra", "-Werror", "-mcpu=v3"]
        .map(String::from)
        .to_vec();
    clang_args.extend(multiarch_include().map(|dir| format!("-I{dir}")));

    for program in PROGRAMS {
        let source = format!("src/{program}.bpf.c");
        println!("cargo::rerun-if-changed={source}");
        if let Err(error) = SkeletonBuilder::new()
            .source(&source)
            .clang_args(&clang_args)
            .build_and_generate(out.join(program).with_extension("skel.rs"))
        {
            eprintln!("cannot build {source}: {error:#}");
            eprintln!(
                "it needs clang, libelf and the kernel headers: apt-get install clang libelf-dev zlib1g-dev linux-libc-dev"
            );
            std::process::exit(1);
        }
    }
}

/// Debian keeps `asm/types.h`, which `linux/bpf.h` includes, in a directory of the architecture that clang does not search
/// when it compiles for the `bpf` target.
fn multiarch_include() -> Option<String> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    let dir = format!("/usr/include/{arch}-linux-gnu");
    Path::new(&dir).is_dir().then_some(dir)
}
