//! Whatever is wrong with a plugin is said in one sentence that helps.

use std::path::Path;

use tidegate_runtime::{PluginError, Runtime, RuntimeSettings};

use crate::harness::{guest, runtime};

/// Makes a component a handler by name, though it has no functions.
const HANDLER: &str =
    r#"(instance $none) (export "tidegate:plugin/client-events@0.1.0" (instance $none))"#;

async fn error_of(bytes: impl Into<Vec<u8>>) -> String {
    let result = runtime().load_bytes("bad.wasm", bytes.into()).await;
    let text = result.unwrap_err().to_string();
    assert!(text.contains("bad.wasm"), "{text}");
    text
}

async fn error_of_text(text: &str) -> String {
    error_of(wat::parse_str(text).unwrap()).await
}

fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let error = runtime()
        .load(Path::new("/nowhere/x.wasm"))
        .await
        .unwrap_err();
    has(
        &error.to_string(),
        &["cannot read the plugin /nowhere/x.wasm"],
    );
}

#[tokio::test]
async fn garbage_and_text_are_told_apart() {
    has(
        &error_of(*b"#!/bin/sh\nexit 1\n").await,
        &["not a WebAssembly component"],
    );
    has(
        &error_of(*b"  (component )").await,
        &["text format", "wasm-tools parse"],
    );
    has(&error_of(*b"").await, &["cut short", "empty"]);
    has(&error_of(*b"\0asm\x0d").await, &["cut short", "5 bytes"]);
    has(&error_of(*b"\0asm\x99\0\0\0").await, &["unknown version"]);
}

#[tokio::test]
async fn a_core_module_is_told_how_to_become_a_component() {
    let error = error_of_text("(module)").await;
    has(
        &error,
        &["core module", "wasm32-wasip2", "wasm-tools component new"],
    );
}

#[tokio::test]
async fn a_component_cut_anywhere_is_never_accepted() {
    let bytes = guest();
    for cut in [9, 100, bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
        has(&error_of(&bytes[..cut]).await, &["is cut short"]);
    }
    let mut broken = bytes;
    // Behind the head of the first section, so that the sections still fit the file.
    broken[20..84].fill(0xff);
    assert!(runtime().load_bytes("bad.wasm", broken).await.is_err());
}

#[tokio::test]
async fn compiled_code_is_refused() {
    let engine = wasmtime::Engine::default();
    let component = wat::parse_str("(component)").unwrap();
    let code = engine.precompile_component(&component).unwrap();
    has(&error_of(code).await, &["compiled machine code"]);
}

#[tokio::test]
async fn missing_client_events_are_named_with_what_is_there_instead() {
    let error = error_of_text("(component)").await;
    has(
        &error,
        &[
            "exports neither `tidegate:plugin/client-events@0.1.0`",
            "`tidegate:plugin/commands@0.1.0`",
        ],
    );
    let error = error_of_text(
        r#"(component
            (instance $i)
            (export "tidegate:plugin/client-events@0.2.0" (instance $i)))"#,
    )
    .await;
    has(
        &error,
        &["it exports `tidegate:plugin/client-events@0.2.0`"],
    );
}

#[tokio::test]
async fn an_unknown_import_is_named_with_what_is_offered() {
    let error = error_of_text(
        r#"(component
            (import "acme:db/query@1.0.0" (instance (export "run" (func)))))"#,
    )
    .await;
    has(
        &error,
        &[
            "imports `acme:db/query@1.0.0`",
            "tidegate:plugin/gateway@0.1.0",
        ],
    );
}

#[tokio::test]
async fn what_cannot_run_here_is_refused_before_it_is_compiled() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Runtime::new(RuntimeSettings {
        cache_dir: Some(folder.path().to_owned()),
        pooling: false,
        ..RuntimeSettings::default()
    });
    let runtime = runtime.unwrap();
    let code = r#"(core module (func (export "f")))"#;
    let http = r#"(import "wasi:http/outgoing-handler@0.2.10" (instance))"#;
    for (text, words) in [
        (
            format!("(component {http} {code} {HANDLER})"),
            &[
                "`wasi:http/outgoing-handler@0.2.10`",
                "--disable http fetch-event",
            ][..],
        ),
        (format!("(component {code})"), &["exports neither"]),
    ] {
        let bytes = wat::parse_str(text).unwrap();
        let refused = runtime.load_bytes("bad.wasm", bytes).await;
        has(&refused.unwrap_err().to_string(), words);
        // What is compiled is kept.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn imports_and_exports_of_another_type_are_named() {
    let error = error_of_text(&format!(
        r#"(component
            (import "tidegate:plugin/worker@0.1.0"
                (instance (export "tenant" (func (result u32)))))
            {HANDLER})"#
    ))
    .await;
    has(&error, &["another version of the contract", "tenant"]);
    let error = error_of_text(
        r#"(component
            (core module $m (func (export "f")))
            (core instance $c (instantiate $m))
            (func $f (canon lift (core func $c "f")))
            (instance $i (export "on-connect" (func $f)))
            (export "tidegate:plugin/client-events@0.1.0" (instance $i)))"#,
    )
    .await;
    has(&error, &["another version of the contract", "on-connect"]);
}

#[tokio::test]
async fn async_functions_are_refused() {
    let text = format!("(component (type (func async (result u32))) {HANDLER})");
    let bytes = wat::parse_str(text).unwrap();
    let error = runtime().load_bytes("bad.wasm", bytes).await.unwrap_err();
    assert!(matches!(error, PluginError::NeedsAsync { .. }), "{error}");
}

#[tokio::test]
async fn a_memory_that_never_fits_is_refused_at_load() {
    let error = error_of_text(&format!(
        "(component (core module $m (memory 60000)) (core instance (instantiate $m)) {HANDLER})"
    ))
    .await;
    has(&error, &["too large"]);
}
