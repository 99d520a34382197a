//! The rules of the layout that a compiler does not check: who may import whom, what stands in
//! one place only, and how a file opens.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use tidegate_tests::{Outcome, tools};

/// Every Rust source below a folder of the repository.
fn sources(folder: &str) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    let mut folders = vec![tools::root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && name != "target" && name != "node_modules" {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = std::fs::read_to_string(&path)?;
                found.push((path, text));
            }
        }
    }
    ensure!(!found.is_empty(), "no sources in {folder}");
    Ok(found)
}

/// No line of code below `folder`, except in files that end with one of `except`, contains `word`.
fn never_names(folder: &str, word: &str, except: &[&str]) -> Outcome {
    for (path, text) in sources(folder)? {
        if except.iter().any(|end| path.ends_with(end)) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let comment = line.trim_start().starts_with("//");
            ensure!(
                comment || !line.contains(word),
                "{}:{} names {word}",
                path.display(),
                number + 1
            );
        }
    }
    Ok(())
}

#[test]
fn the_layers_import_only_what_is_below_them() -> Outcome {
    for word in [
        "tokio::",
        "tracing::",
        "tidegate_cluster",
        "tidegate_runtime",
    ] {
        never_names("host/wire/src", word, &[])?;
    }
    for word in [
        "wasmtime::",
        "tidegate_runtime",
        "tidegate_api",
        "tidegate_client",
    ] {
        never_names("host/cluster/src", word, &[])?;
    }
    for word in [
        "tidegate_cluster",
        "tidegate_api",
        "tidegate_client",
        "TcpStream",
        "TcpListener",
    ] {
        never_names("host/runtime/src", word, &[])?;
    }
    for word in ["wasmtime::", "tidegate_runtime"] {
        never_names("host/api/src", word, &[])?;
    }
    for word in ["tracing::", "tidegate_wire", "tidegate_cluster"] {
        never_names("host/watchdog/src", word, &[])?;
    }
    for word in [
        "tidegate_wire",
        "tidegate_cluster",
        "tidegate_runtime",
        "tidegate_api",
    ] {
        for folder in ["sdk/client/src", "sdk/rust/src"] {
            never_names(folder, word, &[])?;
        }
    }
    let libraries = [
        "host/wire/src",
        "host/cluster/src",
        "host/runtime/src",
        "host/api/src",
        "sdk/client/src",
    ];
    for folder in libraries {
        never_names(folder, "anyhow::", &[])?;
    }
    Ok(())
}

#[test]
fn the_pure_parts_of_the_gateway_know_no_runtime() -> Outcome {
    let pure = [
        "hub",
        "apply",
        "router",
        "window",
        "pending",
        "forward",
        "answer",
        "select",
        "once",
        "directory",
        "plan",
        "change",
        "converge",
        "orders",
    ];
    for (path, text) in sources("host/cluster/src")? {
        let is_pure = path.iter().any(|part| {
            let stem = Path::new(part).file_stem().unwrap_or_default();
            pure.iter().any(|name| stem == *name)
        });
        for word in ["tokio::", "tracing::", "std::net::Tcp"] {
            ensure!(
                !(is_pure && text.contains(word)),
                "{} names {word}",
                path.display()
            );
        }
    }
    Ok(())
}

#[test]
fn bindings_are_made_in_one_place() -> Outcome {
    never_names("host/runtime/src", "bindgen!", &["bindings.rs"])
}

#[test]
fn every_file_opens_with_its_contract_and_there_is_no_mod_rs() -> Outcome {
    for folder in ["host", "sdk", "plugins-example", "tests"] {
        for (path, text) in sources(folder)? {
            let path = path.display();
            ensure!(
                !path.to_string().ends_with("/mod.rs"),
                "{path}: foo.rs instead"
            );
            let opens = text.as_str();
            ensure!(
                opens.starts_with("//!") || opens.starts_with("#!["),
                "{path} does not open with //!"
            );
        }
    }
    Ok(())
}
