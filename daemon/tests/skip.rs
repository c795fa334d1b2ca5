//! No test is skipped silently. Shared by the test binaries of the workspace that need more than Cargo.

use std::path::Path;

/// Says why a test did not run, on the console and, for `make test`, in the directory that it counts skips in.
pub fn skip(group: &str, why: &str) {
    println!("SKIP {why}");
    if let Some(folder) = std::env::var_os("SLUICE_SKIPS") {
        let test = std::thread::current()
            .name()
            .unwrap_or("main")
            .replace("::", "-");
        let file = Path::new(&folder).join(format!("{group}-{}-{test}", std::process::id()));
        std::fs::write(file, format!("SKIP {group} test: {why}\n"))
            .expect("the skip directory is writable");
    }
}
