//! `tidegate check`: says what a configuration has and what is wrong with it or with the plugins,
//! without starting anything.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tidegate_runtime::{PluginError, PluginKind};

use crate::config::Config;
use crate::tenants;

/// What is looked at of one component file, which must be of this kind if one is wanted; the problem
/// is for people.
pub type CheckPlugin = dyn Fn(&Path, Option<PluginKind>) -> Result<String, String>;

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
        let codec = listener.codec.as_ref();
        let codec = codec.map_or(String::new(), |it| format!(", with the codec `{it}`"));
        writeln!(out, "listener {url} for the tenant `{tenant}`{codec}")?;
    }
    if let Err(errors) = config.check_files() {
        for error in errors.iter() {
            problems += 1;
            writeln!(out, "error: {error}")?;
        }
    }
    for it in config.plugins.iter().filter(|it| it.file.is_none()) {
        let tenant = tenant_of(&it.tenant);
        writeln!(out, "no plugin file{tenant}: it waits for a deploy")?;
    }
    let handlers = config.plugins.iter();
    let handlers = handlers.filter_map(|it| {
        let file = it.file.as_ref()?;
        Some((file, Some((PluginKind::Handler, &it.tenant))))
    });
    let commands = config.commands.iter();
    let commands = commands.map(|it| (&it.file, Some((PluginKind::Command, &it.tenant))));
    let routers = config.routers.iter();
    let routers = routers.map(|it| (&it.file, Some((PluginKind::Router, &it.tenant))));
    let of_tenants = handlers.chain(commands).chain(routers);
    let of_tenants = of_tenants.map(|(file, wanted)| {
        let tenant = wanted.map_or(String::new(), |(_, tenant)| tenant_of(tenant));
        (file, wanted.map(|(kind, _)| kind), tenant)
    });
    let codecs = config.codecs.iter();
    let codecs = codecs.map(|it| {
        let name = format!(" named `{}`", it.name);
        (&it.file, Some(PluginKind::Codec), name)
    });
    let given = plugins.iter().map(|file| (file, None, String::new()));
    for (file, wanted, tenant) in of_tenants.chain(codecs).chain(given) {
        let kind = wanted;
        match readable(file).and_then(|()| check_plugin(file, kind)) {
            Ok(about) => writeln!(out, "plugin {}{tenant}: {about}", file.display())?,
            // The configuration's own files were told above, with their line.
            Err(_) if wanted.is_some() && !file.is_file() => {}
            Err(problem) => {
                problems += 1;
                writeln!(out, "error: {problem}")?;
            }
        }
    }
    match problems {
        0 if plugins.is_empty() && config.is_default() => {
            let text = "nothing was given to check: name a configuration with --config, or plugins";
            writeln!(out, "{text}").context("standard output")
        }
        0 => writeln!(out, "no problem found").context("standard output"),
        1 => anyhow::bail!("1 problem found"),
        _ => anyhow::bail!("{problems} problems found"),
    }
}

fn tenant_of(tenant: &str) -> String {
    format!(" for the tenant `{tenant}`")
}

fn readable(file: &Path) -> Result<(), String> {
    match std::fs::File::open(file) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "cannot read the plugin {}: {error}",
            file.display()
        )),
    }
}

/// Checks plugins as a worker would load them: container, contract, imports, compiled code.
///
/// # Errors
/// When the engine cannot be built.
pub fn by_loading(config: &Config) -> anyhow::Result<Box<CheckPlugin>> {
    let runtime = tenants::runtime(config)?;
    let executor = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(Box::new(move |file, wanted| {
        let text = |error: PluginError| error.to_string();
        let plugin = executor.block_on(runtime.load(file)).map_err(text)?;
        if let Some(wanted) = wanted {
            plugin.expect_kind(wanted).map_err(text)?;
        }
        Ok(format!(
            "a {}, version {}, exports {}",
            plugin.kind(),
            plugin.version(),
            plugin.exports().join(", ")
        ))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, Purpose};

    /// Stands for the runtime: a component begins like this.
    fn preamble(file: &Path, wanted: Option<PluginKind>) -> Result<String, String> {
        match std::fs::read(file) {
            Ok(bytes) if bytes.starts_with(b"\0asm\x0d") => {
                Ok(wanted.map_or("a component".to_owned(), |it| format!("a {it}")))
            }
            _ => Err(format!("{} is no component", file.display())),
        }
    }

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
                    \"a.wasm\"\n[[command]]\nfile = \"a.wasm\"\n[[codec]]\nname = \"c\"\nfile \
                    = \"a.wasm\"\n[[gateway.listener]]\nlisten = \"tcp://127.0.0.1:9\"\ncodec = \
                    \"c\"\n";
        let (out, fine) = checked(text, &[("a.wasm", b"\0asm\x0d\0\x01\0")], &["a.wasm"]);
        assert_eq!(
            out,
            "listener ws://127.0.0.1:7272 for the tenant `default`\n\
             listener tcp://127.0.0.1:9 for the tenant `default`, with the codec `c`\n\
             plugin a.wasm for the tenant `default`: a handler\n\
             plugin a.wasm for the tenant `default`: a command component\n\
             plugin a.wasm named `c`: a codec\n\
             plugin a.wasm: a component\n\
             no problem found\n"
        );
        assert!(fine);
    }

    #[test]
    fn a_check_of_nothing_says_so() {
        let (out, fine) = checked("", &[], &[]);
        assert!(out.starts_with("nothing was given to check"), "{out}");
        assert!(fine);
        let (out, _) = checked("[gateway]\nname = \"g\"\n", &[], &[]);
        assert_eq!(out, "no problem found\n");
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
             error: core.wasm is no component\n\
             error: t.txt is no component\n\
             error: cannot read the plugin none.wasm: No such file or directory (os error 2)\n"
        );
        assert!(!fine);
    }
}
