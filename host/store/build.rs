//! A new migration compiles the crate again: `sqlx::migrate!` cannot say so by itself.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
