//! Fuzz target: configuration files.
//!
//! Besides that nothing panics: every mistake is told with its place and a sentence, and what is
//! accepted is accepted again as `config` prints what is in force.

use tidegate_fuzzing::Case;

use super::*;

/// Words of the language, and values at which keys tend to break.
const WORDS: [&str; 30] = [
    "\n",
    "[",
    "]",
    "[[",
    "]]",
    " = ",
    "\"",
    "'''",
    "#",
    "{",
    "}",
    ",",
    ".",
    "true",
    "-1",
    "0x10",
    "1e5",
    "9223372036854775808",
    "nan",
    "1979-05-27T07:32:00Z",
    "\\u0000",
    "\u{0}",
    "\u{feff}",
    "[]",
    "[[gateway.listener]]\n",
    "[[plugin]]\n",
    "listen = \"ws://0.0.0.0:0\"\n",
    "\"ws://[::1]:1/x?y\"",
    "\"${HOME}\"",
    "[plugin.config]\n",
];

/// Files that are right, or nearly: the reference with every key set, and small ones.
fn seeds() -> Vec<Vec<u8>> {
    let reference = default_file();
    let uncommented = reference.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => format!("{key}\n"),
        Some(_) | None => format!("{line}\n"),
    });
    let mut seeds = vec![reference.clone().into_bytes()];
    seeds.push(uncommented.collect::<String>().into_bytes());
    // Its tables one by one, so that edits fall on few keys.
    let tables = reference.split("\n\n").map(|table| {
        let keys = table
            .lines()
            .filter_map(|line| match line.strip_prefix('#') {
                Some(key) => (!key.starts_with(' ')).then_some(key),
                None => Some(line),
            });
        keys.map(|key| format!("{key}\n")).collect::<String>()
    });
    seeds.extend(tables.map(String::into_bytes));
    seeds.push(b"[[gateway.listener]]\nlisten = \"ws://127.0.0.1:7272\"\n\n[[plugin]]\nfile = \"a.wasm\"\n\n[plugin.config]\nb = [1, {c = \"d\"}]\n".to_vec());
    seeds
}

#[test]
fn configuration_files() {
    let seeds = seeds();
    tidegate_fuzzing::run!(|case: &Case| {
        let bytes = case.bytes(&seeds, &WORDS);
        let text = String::from_utf8_lossy(&bytes);
        let load = |text: &str| {
            let overrides = Overrides {
                purpose: Purpose::Check,
                flags: vec![],
            };
            Config::of_text("t.toml", text, std::iter::empty(), &overrides, vec![])
        };
        match load(&text) {
            Ok(config) => {
                let effective = effective_file(&config);
                if let Err(errors) = load(&effective) {
                    panic!(
                        "{text}\n\nwas accepted; what is in force is not:\n{effective}\n{errors}"
                    );
                }
            }
            Err(errors) => {
                assert!(errors.iter().next().is_some(), "refused without a word");
                for error in errors.iter() {
                    let told = error.to_string();
                    assert!(told.starts_with("t.toml") || told.contains(": "), "{told}");
                    let sent = told.chars().filter(|c| *c != '\n');
                    assert!(!sent.into_iter().any(char::is_control), "{told:?}");
                }
            }
        }
    });
}
