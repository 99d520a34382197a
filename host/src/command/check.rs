//! `tidegate check`: says what a configuration has and what is wrong with it or with the plugins,
//! without starting anything.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::config::{Config, Plugin};

/// What is looked at of one plugin file; the problem is for people.
pub type CheckPlugin = dyn Fn(&Path) -> Result<String, String>;

/// Prints what was found; every file of the configuration and of `plugins` is given to
/// `check_plugin`, which answers with what the plugin is.
///
/// # Errors
/// When there is any problem, after all were printed.
pub fn run(
    config: &Config,
    plugins: &[PathBuf],
    check_plugin: &CheckPlugin,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut problems = 0_usize;
    for warning in config.warnings() {
        writeln!(out, "warning: {warning}")?;
    }
    for listener in &config.listeners {
        let (url, tenant) = (listener.listen, &listener.tenant);
        writeln!(out, "listener {url} for the tenant `{tenant}`")?;
    }
    if let Err(errors) = config.check_files() {
        for error in errors.iter() {
            problems += 1;
            writeln!(out, "error: {error}")?;
        }
    }
    let named = config
        .plugins
        .iter()
        .map(|plugin| (&plugin.file, Some(plugin)));
    let given = plugins.iter().map(|file| (file, None));
    for (file, plugin) in named.chain(given) {
        let tenant = plugin.map_or(String::new(), tenant_of);
        match readable(file).and_then(|()| check_plugin(file)) {
            Ok(about) => writeln!(out, "plugin {}{tenant}: {about}", file.display())?,
            // The configuration's own files were told above, with their line.
            Err(_) if plugin.is_some() && !file.is_file() => {}
            Err(problem) => {
                problems += 1;
                writeln!(out, "error: plugin {}: {problem}", file.display())?;
            }
        }
    }
    match problems {
        0 => writeln!(out, "no problem found").context("standard output"),
        1 => anyhow::bail!("1 problem found"),
        _ => anyhow::bail!("{problems} problems found"),
    }
}

fn tenant_of(plugin: &Plugin) -> String {
    format!(" for the tenant `{}`", plugin.tenant)
}

fn readable(file: &Path) -> Result<(), String> {
    match std::fs::File::open(file) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

/// Looks only at how the file begins, until the runtime is asked instead.
///
/// # Errors
/// When it is no component.
pub fn preamble(file: &Path) -> Result<String, String> {
    use std::io::Read;
    let mut begin = [0; 8];
    let read = std::fs::File::open(file).and_then(|mut file| file.read_exact(&mut begin));
    match (read, &begin) {
        (Ok(()), b"\0asm\x0d\0\x01\0") => Ok("a component".to_owned()),
        (Ok(()), b"\0asm\x01\0\0\0") => Err(
            "a core module, but a component is needed: build for wasm32-wasip2, or make one with \
             `wasm-tools component new`"
                .to_owned(),
        ),
        (Ok(()), _) => Err("not WebAssembly: it does not begin with `\\0asm`".to_owned()),
        (Err(_), _) => Err("not WebAssembly: it is shorter than 8 bytes".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, Purpose};

    fn checked(text: &str, files: &[(&str, &[u8])], given: &[&str]) -> (String, bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.toml");
        std::fs::write(&path, text).unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let overrides = Overrides {
            purpose: Purpose::Check,
            flags: vec![],
        };
        let config = Config::load(Some(&path), std::iter::empty(), &overrides).unwrap();
        let given: Vec<PathBuf> = given.iter().map(|name| folder.path().join(name)).collect();
        let mut out = Vec::new();
        let fine = run(&config, &given, &preamble, &mut out).is_ok();
        let base = format!("{}/", folder.path().display());
        let out = String::from_utf8(out).unwrap().replace(&base, "");
        (out, fine)
    }

    #[test]
    fn what_is_there_is_listed() {
        let text = "secret = \"0123456789abcdef\"\n[[gateway.listener]]\n[[plugin]]\nfile = \
                    \"a.wasm\"\n";
        let (out, fine) = checked(text, &[("a.wasm", b"\0asm\x0d\0\x01\0")], &["a.wasm"]);
        assert_eq!(
            out,
            "listener ws://127.0.0.1:7272 for the tenant `default`\n\
             plugin a.wasm for the tenant `default`: a component\n\
             plugin a.wasm: a component\n\
             no problem found\n"
        );
        assert!(fine);
    }

    #[test]
    fn every_problem_is_told_once() {
        let text = "secret = \"0123456789abcdef\"\n[[plugin]]\nfile = \"gone.wasm\"\n";
        let files: [(&str, &[u8]); 2] = [("core.wasm", b"\0asm\x01\0\0\0"), ("t.txt", b"hi")];
        let (out, fine) = checked(text, &files, &["core.wasm", "t.txt", "none.wasm"]);
        assert_eq!(
            out,
            "error: t.toml:3:8: the plugin `gone.wasm` cannot be read: No such file or directory \
             (os error 2)\n\
             error: plugin core.wasm: a core module, but a component is needed: build for \
             wasm32-wasip2, or make one with `wasm-tools component new`\n\
             error: plugin t.txt: not WebAssembly: it is shorter than 8 bytes\n\
             error: plugin none.wasm: cannot be read: No such file or directory (os error 2)\n"
        );
        assert!(!fine);
    }
}
