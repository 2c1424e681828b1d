//! The binary `rais`.
fn main() {}
