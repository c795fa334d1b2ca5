//! The Sluice bench harness.
fn main() {}
