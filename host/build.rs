//! Tells builds apart: the version, and the commit where the source is a checkout.

use std::process::Command;

fn main() {
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let build = match git(&["rev-parse", "--short=12", "HEAD"]) {
        Some(commit) => {
            let is_changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some();
            let changed = if is_changed { ", changed" } else { "" };
            format!("{version} ({commit}{changed})")
        }
        None => version,
    };
    println!("cargo::rustc-env=TIDEGATE_BUILD={build}");
    // Each commit and each checkout writes these.
    let of_git = ["HEAD", "logs/HEAD"];
    let of_git = of_git.map(|file| git(&["rev-parse", "--git-path", file]));
    // All crates of the host are below this folder.
    let watched = of_git.into_iter().flatten().chain([".".to_owned()]);
    watched.for_each(|path| println!("cargo::rerun-if-changed={path}"));
}

/// What git says; none where it says nothing, or is not there.
fn git(args: &[&str]) -> Option<String> {
    let said = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(said.stdout).ok()?;
    let text = text.trim();
    (said.status.success() && !text.is_empty()).then(|| text.to_owned())
}
