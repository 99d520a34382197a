//! The rules of the layout that a compiler does not check: who may import whom, what stands in
//! one place only, and how a file opens.

use std::collections::{BTreeMap, BTreeSet};
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

/// The crates of this project, and outside ones, that a crate names in its manifest; those of its tests
/// not.
fn dependencies(krate: &str) -> Result<Vec<String>> {
    let path = tools::root().join(krate).join("Cargo.toml");
    let manifest = std::fs::read_to_string(&path)?;
    let begin = manifest.find("[dependencies]");
    let all = begin.and_then(|at| manifest.get(at..)).unwrap_or_default();
    let own = all.split("\n[").next().unwrap_or_default();
    let names = own.lines().filter_map(|line| line.split_once(['.', ' ']));
    Ok(names.map(|(name, _)| name.to_owned()).collect())
}

/// What each crate may not stand on, by its manifest.
#[test]
fn the_layers_import_only_what_is_below_them() -> Outcome {
    const IO: &[&str] = &[
        "tokio",
        "tokio-util",
        "tracing",
        "metrics",
        "hyper",
        "socket2",
    ];
    const NODES: &[&str] = &["tidegate-cluster", "tidegate-runtime", "tidegate-api"];
    const ABOVE_LINK: &[&str] = &["tidegate-hub", "tidegate-deploy", "tidegate-client"];
    const WASM: &[&str] = &["wasmtime", "wasmtime-wasi", "tidegate-runtime"];
    let rules: [(&str, &[&[&str]]); 14] = [
        ("host/wire", &[IO, NODES, ABOVE_LINK, &["tidegate-link"]]),
        (
            "host/hub",
            &[IO, NODES, &["tidegate-link", "tidegate-deploy"]],
        ),
        (
            "host/schedule",
            &[IO, NODES, ABOVE_LINK, &["tidegate-link"]],
        ),
        ("host/fair", &[IO, NODES, ABOVE_LINK, &["tidegate-wire"]]),
        (
            "host/histogram",
            &[IO, NODES, ABOVE_LINK, &["tidegate-wire"]],
        ),
        (
            "host/watchdog",
            &[NODES, ABOVE_LINK, &["tracing", "tidegate-wire"]],
        ),
        ("host/link", &[NODES, ABOVE_LINK, WASM]),
        (
            "host/deploy",
            &[NODES, &["tidegate-hub", "tidegate-client"], WASM],
        ),
        (
            "host/cluster",
            &[WASM, &["tidegate-api", "tidegate-client"]],
        ),
        (
            "host/runtime",
            &[&[
                "tidegate-cluster",
                "tidegate-link",
                "tidegate-deploy",
                "tidegate-api",
            ]],
        ),
        ("host/api", &[WASM]),
        ("sdk/client", &[NODES, &["tidegate-wire", "tidegate-hub"]]),
        ("sdk/rust", &[NODES, &["tidegate-link", "tidegate-deploy"]]),
        (
            "sdk/rust/macros",
            &[NODES, &["tidegate-wire", "tidegate-hub"]],
        ),
    ];
    for (krate, forbidden) in rules {
        let has = dependencies(krate)?;
        for name in forbidden.iter().flat_map(|names| names.iter()) {
            ensure!(!has.iter().any(|it| it == name), "{krate} stands on {name}");
        }
    }
    for krate in ["wire", "hub", "link", "deploy", "cluster", "runtime", "api"] {
        let has = dependencies(&format!("host/{krate}"))?;
        ensure!(
            !has.iter().any(|it| it == "anyhow"),
            "{krate} stands on anyhow"
        );
    }
    for word in ["TcpStream", "TcpListener"] {
        never_names("host/runtime/src", word, &[])?;
    }
    Ok(())
}

#[test]
fn the_pure_parts_of_deploys_know_no_runtime() -> Outcome {
    let pure = ["plan", "change", "converge", "resolve"];
    let mut found = 0;
    for (path, text) in sources("host/deploy/src")? {
        let is_pure = path.iter().any(|part| {
            let stem = Path::new(part).file_stem().unwrap_or_default();
            pure.iter().any(|name| stem == *name)
        });
        found += usize::from(is_pure);
        for word in ["tokio::", "tracing::", "std::net::Tcp"] {
            ensure!(
                !(is_pure && text.contains(word)),
                "{} names {word}",
                path.display()
            );
        }
    }
    ensure!(found >= pure.len(), "only {found} of {pure:?} were found");
    Ok(())
}

/// The rooms of the gateway that each room names, without what is for tests.
fn rooms_named_by_rooms() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let root = tools::root().join("host/cluster/src/gateway");
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in sources("host/cluster/src/gateway")? {
        let module = path.strip_prefix(&root)?.with_extension("");
        let parts: Vec<&str> = module.iter().filter_map(|part| part.to_str()).collect();
        let for_tests = ["tests", "fuzz", "rig"];
        if parts.iter().any(|part| for_tests.contains(part)) {
            continue;
        }
        let Some(room) = parts.first() else { continue };
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
        let own = format!("{}gateway::", "super::".repeat(parts.len() + 1));
        let up = "super::".repeat(parts.len());
        let names = named.entry((*room).to_owned()).or_default();
        for line in code.lines().filter(|it| !it.trim_start().starts_with("//")) {
            for prefix in ["crate::gateway::", &own, &up] {
                for (_, rest) in line
                    .match_indices(prefix)
                    .map(|(at, it)| (at, &line[at + it.len()..]))
                {
                    let list = rest.strip_prefix('{').unwrap_or(rest);
                    let one = if list.len() == rest.len() {
                        1
                    } else {
                        usize::MAX
                    };
                    let words = list.split([',', '}', ';']).take(one);
                    let word = |it: &str| {
                        let word = it.trim().split(|c: char| !c.is_alphanumeric() && c != '_');
                        word.map(str::to_owned).next()
                    };
                    names.extend(words.filter_map(word));
                }
            }
        }
        names.remove(*room);
    }
    let rooms: BTreeSet<String> = named.keys().cloned().collect();
    for names in named.values_mut() {
        names.retain(|name| rooms.contains(name));
    }
    Ok(named)
}

#[test]
fn no_room_of_the_gateway_imports_one_that_imports_it() -> Outcome {
    let mut left = rooms_named_by_rooms()?;
    ensure!(
        left.len() > 8 && left["shard"].contains("shared"),
        "{left:?}"
    );
    while let Some(room) = left
        .iter()
        .find(|(_, names)| names.is_empty())
        .map(|(room, _)| room.clone())
    {
        left.remove(&room);
        for names in left.values_mut() {
            names.remove(&room);
        }
    }
    ensure!(left.is_empty(), "rooms that import each other: {left:#?}");
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
