//! Whether the files and folders that a configuration names are there; the only look outside.

use std::path::Path;

use rustix::fs::Access;

use super::error::ConfigError;
use super::{Config, Purpose};

/// Files and folders that are named but not there.
pub(super) fn errors(config: &Config) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    if config.purpose != Purpose::Worker {
        for (at, listener) in config.listeners.iter().enumerate() {
            let place = config.places.of(&format!("gateway.listener.{at}.static"));
            if let Some(folder) = &listener.static_dir
                && !folder.is_dir()
            {
                let message = format!("`{}` is not a folder that can be read", folder.display());
                errors.push(ConfigError::new(&place, message));
            }
        }
    }
    let plugins = config.plugins.iter().enumerate();
    let plugins = plugins.filter(|_| config.purpose != Purpose::Gateway);
    let plugins = plugins.filter_map(|(at, it)| it.file.as_ref().map(|file| (at, file)));
    let commands = config.commands.iter().map(|it| &it.file).enumerate();
    let commands = commands.filter(|_| config.purpose != Purpose::Worker);
    let commands = commands.filter(|(_, file)| !file.as_os_str().is_empty());
    let plugins = plugins.map(|(at, file)| (format!("plugin.{at}.file"), "plugin", file));
    let commands =
        commands.map(|(at, file)| (format!("command.{at}.file"), "command component", file));
    let codecs = config.codecs.iter().map(|it| &it.file).enumerate();
    let codecs = codecs.filter(|_| config.purpose != Purpose::Worker);
    let codecs = codecs.filter(|(_, file)| !file.as_os_str().is_empty());
    let codecs = codecs.map(|(at, file)| (format!("codec.{at}.file"), "codec", file));
    let routers = config.routers.iter().map(|it| &it.file).enumerate();
    let routers = routers.filter(|_| config.purpose != Purpose::Worker);
    let routers = routers.filter(|(_, file)| !file.as_os_str().is_empty());
    let routers = routers.map(|(at, file)| (format!("router.{at}.file"), "router", file));
    let of_gateways = commands.chain(codecs).chain(routers);
    for (path, what, file) in plugins.chain(of_gateways) {
        if let Some(problem) = unreadable(what, file) {
            errors.push(ConfigError::new(&config.places.of(&path), problem));
        }
    }
    if config.purpose != Purpose::Gateway
        && let Some(folder) = &config.deploy.state_dir
        && let Some(problem) = unwritable(folder)
    {
        let place = config.places.of("deploy.state-dir");
        errors.push(ConfigError::new(&place, problem));
    }
    if config.serves_api() || config.purpose == Purpose::Check {
        let found = super::tokens::read(config).err();
        errors.extend(found.iter().flat_map(|errors| errors.iter().cloned()));
    }
    errors
}

fn unreadable(what: &str, file: &Path) -> Option<String> {
    let shown = file.display();
    match std::fs::metadata(file) {
        Ok(found) if found.is_file() => None,
        Ok(_) => Some(format!("`{shown}` is not a file, a component is needed")),
        Err(error) => Some(format!("the {what} `{shown}` cannot be read: {error}")),
    }
}

/// Why a folder that is made if it is not there cannot be used. What it stands on must be there.
fn unwritable(folder: &Path) -> Option<String> {
    let shown = folder.display();
    let there = folder.ancestors().find(|it| it.exists());
    // What is relative stands in the folder that the process is in.
    let there = there.filter(|it| !it.as_os_str().is_empty());
    let there = there.unwrap_or(Path::new("."));
    if !there.is_dir() {
        let (there, what) = (there.display(), "is not a folder");
        return Some(format!("`{shown}` cannot be used: `{there}` {what}"));
    }
    let access = Access::WRITE_OK | Access::EXEC_OK;
    let error = rustix::fs::access(there, access).err()?;
    let error = std::io::Error::from(error);
    Some(match there == folder {
        true => format!("`{shown}` cannot be written: {error}"),
        false => format!("`{shown}` cannot be made in `{}`: {error}", there.display()),
    })
}
