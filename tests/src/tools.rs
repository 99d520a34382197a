//! Where things are: the repository, the target folder, the binary under test, and the programs
//! of others that some tests need and may do without.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The folder of this profile, for example `target/debug`: where this executable lies.
///
/// # Errors
/// When this executable does not lie in one.
pub fn profile_dir() -> Result<PathBuf> {
    let mut folder = std::env::current_exe()?;
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    Ok(folder)
}

/// The target folder.
///
/// # Errors
/// When this executable does not lie in one.
pub fn target_dir() -> Result<PathBuf> {
    let profile = profile_dir()?;
    Ok(profile
        .parent()
        .context("no target folder above this executable")?
        .to_owned())
}

/// The `tidegate` binary: `TIDEGATE_BIN`, or the one beside this executable, which cargo brings up
/// to date once per run.
///
/// # Errors
/// When it cannot be built.
pub fn tidegate() -> Result<PathBuf> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let binary = BINARY.get_or_init(|| {
        if let Some(binary) = std::env::var_os("TIDEGATE_BIN") {
            return Ok(PathBuf::from(binary));
        }
        build().map_err(|error| format!("{error:#}"))
    });
    binary.clone().map_err(anyhow::Error::msg)
}

fn build() -> Result<PathBuf> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(root())
        .args(["build", "--quiet", "--workspace", "--bins"])
        .arg("--target-dir")
        .arg(target_dir()?);
    // `cargo test` unifies features with those of the tests: without them here, wasmtime would be
    // compiled a second time. What is measured is built without.
    command.arg(if cfg!(debug_assertions) {
        "--tests"
    } else {
        "--release"
    });
    let status = command.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("cargo build --workspace --bins: {status}");
    }
    Ok(profile_dir()?.join("tidegate"))
}

/// A program behind a shell that sets limits first, like `ulimit -n 256`.
#[must_use]
pub fn limited(limits: &str, program: &Path) -> Command {
    let mut command = Command::new("sh");
    let script = format!("{limits}; exec \"$0\" \"$@\"");
    command.arg("-c").arg(script).arg(program);
    command
}

/// Whether a program can be started.
#[must_use]
pub fn has(program: &str) -> bool {
    runs(program, "--version")
}

/// Whether a program can be started with this argument.
#[must_use]
pub fn runs(program: &str, argument: &str) -> bool {
    Command::new(program)
        .arg(argument)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Says that a test cannot run here. With `TIDEGATE_NO_SKIP=1` that is a failure.
///
/// # Errors
/// With `TIDEGATE_NO_SKIP=1`.
pub fn skip(name: &str, needs: &str) -> Result<()> {
    let text = format!("skipped: {name} (needs {needs})");
    if std::env::var_os("TIDEGATE_NO_SKIP").is_some_and(|value| value == "1") {
        bail!("{text}, and TIDEGATE_NO_SKIP=1 forbids that");
    }
    // Not eprintln: libtest would keep it to itself.
    writeln!(std::io::stderr(), "{text}")?;
    Ok(())
}
