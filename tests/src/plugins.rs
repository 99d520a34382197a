//! Where the components of the tests are, how they are made when they are missing, and how a
//! differing build of one is faked.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};

use crate::tools::{root, target_dir};

/// A component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// The bench in Rust.
    Bench,
    /// The bench in C.
    BenchC,
    /// The bench in JavaScript.
    BenchJs,
    /// The chat example.
    Chat,
    /// The game for two.
    Game,
    /// Makes any call that it is told to make.
    Probe,
    /// The command component that goes with the probe.
    ProbeCommand,
    /// The chat for strangers.
    PublicChat,
    /// Lets clients tell whether anything was lost, repeated or out of order.
    Recorder,
    /// Told by its configuration to be a bad version.
    Scripted,
    /// A codec that does what its bytes say, good or bad.
    ScriptedCodec,
    /// The codec example.
    Tracker,
    /// A router that sends events where they say.
    ScriptedRouter,
}

impl Plugin {
    /// Its file name without `.wasm`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bench => "bench",
            Self::BenchC => "bench-c",
            Self::BenchJs => "bench-js",
            Self::Chat => "chat",
            Self::Game => "game",
            Self::Probe => "probe",
            Self::ProbeCommand => "probe-command",
            Self::PublicChat => "public-chat",
            Self::Recorder => "recorder",
            Self::Scripted => "scripted",
            Self::ScriptedCodec => "scripted-codec",
            Self::Tracker => "tracker",
            Self::ScriptedRouter => "scripted-router",
        }
    }

    /// Its file. The Rust ones are built once if they are missing.
    ///
    /// # Errors
    /// When it is missing and cannot be built here.
    pub fn path(self) -> Result<PathBuf> {
        let path = folder().join(self.name()).with_extension("wasm");
        if path.is_file() {
            return Ok(path);
        }
        match self {
            Self::Bench
            | Self::Chat
            | Self::Game
            | Self::Probe
            | Self::ProbeCommand
            | Self::PublicChat
            | Self::Recorder
            | Self::Scripted
            | Self::ScriptedCodec
            | Self::ScriptedRouter
            | Self::Tracker => build_rust()?,
            Self::BenchC | Self::BenchJs => {}
        }
        ensure!(
            path.is_file(),
            "{} is missing: run plugins-example/build all",
            path.display()
        );
        Ok(path)
    }

    /// A copy in `folder`, for a test that replaces it.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn copy_to(self, folder: &Path) -> Result<PathBuf> {
        let copy = folder.join(self.name()).with_extension("wasm");
        std::fs::copy(self.path()?, &copy)?;
        Ok(copy)
    }
}

/// `TIDEGATE_PLUGINS`, or where `plugins-example/build` puts them.
fn folder() -> PathBuf {
    std::env::var_os("TIDEGATE_PLUGINS")
        .map_or_else(|| root().join("target/plugins"), PathBuf::from)
}

fn build_rust() -> Result<()> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let mut command = Command::new(root().join("plugins-example/build"));
        match command.arg("rust").status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("plugins-example/build rust: {status}")),
            Err(error) => Err(format!("plugins-example/build rust: {error}")),
        }
    });
    built.clone().map_err(anyhow::Error::msg)
}

/// The same component as another build: a custom section at its end changes the content hash and
/// nothing else.
///
/// # Errors
/// When `label` is over 100 bytes.
pub fn another_build(component: &[u8], label: &str) -> Result<Vec<u8>> {
    const NAME: &[u8] = b"build";
    ensure!(label.len() <= 100, "the label {label:?} is over 100 bytes");
    let mut bytes = component.to_vec();
    bytes.push(0);
    bytes.push(u8::try_from(1 + NAME.len() + label.len())?);
    bytes.push(u8::try_from(NAME.len())?);
    bytes.extend_from_slice(NAME);
    bytes.extend_from_slice(label.as_bytes());
    Ok(bytes)
}

/// Replaces a plugin file as a careful deployment does: written beside it, then renamed over it.
///
/// # Errors
/// When the folder cannot be written to.
pub fn replace(file: &Path, bytes: &[u8]) -> Result<()> {
    let beside = file.with_extension("wasm.new");
    std::fs::write(&beside, bytes)?;
    std::fs::rename(&beside, file).with_context(|| format!("cannot replace {}", file.display()))
}

/// Makes a component from its text form, in a folder of its own under the target folder.
///
/// # Errors
/// When the text is wrong.
pub fn from_text(name: &str, text: &str) -> Result<PathBuf> {
    let folder = target_dir()?.join("harness-plugins");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(name).with_extension("wasm");
    let bytes = match wat::parse_str(text) {
        Ok(bytes) => bytes,
        Err(error) => bail!("{name}: {error}"),
    };
    std::fs::write(&file, bytes)?;
    Ok(file)
}
