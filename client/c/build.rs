//! How the shared library is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Programs that were linked to it find any later one that is compatible.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libmofka_c.so.0");
    // Its threads and its handler of forks are there until the process ends: dlclose must not take their code away.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
