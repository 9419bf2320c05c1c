//! The gate as a proxy-wasm module: glue between the proxy and `portcullis-eval`. Nothing is decided here.
