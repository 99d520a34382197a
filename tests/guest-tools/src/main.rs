//! Builds the C guest without the full command lines of wit-bindgen and wasm-tools, which take
//! minutes to compile. Bindings from the WIT, a component from a core module, and a list of what
//! a component imports and exports. Nothing else, and nothing of Tidegate's own is linked here.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use wasi_preview1_component_adapter_provider as adapter;
use wit_bindgen_core::Files;
use wit_component::ComponentEncoder;
use wit_parser::decoding::{DecodedWasm, decode};
use wit_parser::{Resolve, WorldItem, WorldKey};

const USAGE: &str = "usage:
  guest-tools c-bindings --wit DIR --world WORLD --out DIR   bindings as .c, .h and an object file
  guest-tools component CORE.wasm -o OUT.wasm                with the preview1 reactor adapter
  guest-tools describe COMPONENT.wasm                        one line per import and export";

fn main() -> ExitCode {
    match run(std::env::args_os().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guest-tools: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<OsString>) -> Result<()> {
    let mut arguments = Arguments::parse(arguments)?;
    match arguments.command.as_str() {
        "c-bindings" => {
            let wit = arguments.option("--wit")?;
            let world = arguments.option("--world")?;
            let world = world.to_str().context("--world must be UTF-8")?.to_owned();
            let out = arguments.option("--out")?;
            c_bindings(&wit, &world, &out)
        }
        "component" => {
            let out = arguments.option("-o")?;
            component(&arguments.file()?, &out)
        }
        "describe" => describe(&arguments.file()?),
        other => bail!("unknown command {other:?}\n{USAGE}"),
    }
}

/// A command, its `--name value` pairs and its files, in any order.
struct Arguments {
    command: String,
    options: Vec<(String, PathBuf)>,
    files: Vec<PathBuf>,
}

impl Arguments {
    fn parse(arguments: Vec<OsString>) -> Result<Self> {
        let mut arguments = arguments.into_iter();
        let command = arguments.next().context(USAGE)?;
        let mut parsed = Self {
            command: command.to_string_lossy().into_owned(),
            options: Vec::new(),
            files: Vec::new(),
        };
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some(name) if name.starts_with('-') => {
                    let value = arguments
                        .next()
                        .with_context(|| format!("{name} needs a value"))?;
                    parsed.options.push((name.to_owned(), value.into()));
                }
                _ => parsed.files.push(argument.into()),
            }
        }
        Ok(parsed)
    }

    fn option(&mut self, name: &str) -> Result<PathBuf> {
        let place = self.options.iter().position(|(option, _)| option == name);
        let place = place.with_context(|| format!("{name} is missing\n{USAGE}"))?;
        Ok(self.options.swap_remove(place).1)
    }

    fn file(&mut self) -> Result<PathBuf> {
        self.files
            .pop()
            .with_context(|| format!("a file is missing\n{USAGE}"))
    }
}

fn c_bindings(wit: &Path, world: &str, out: &Path) -> Result<()> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve
        .push_path(wit)
        .with_context(|| format!("reading the WIT package in {}", wit.display()))?;
    let world = resolve
        .select_world(&[package], Some(world))
        .with_context(|| format!("looking for the world {world:?}"))?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default()
        .build()
        .generate(&mut resolve, world, &mut files)?;
    std::fs::create_dir_all(out).with_context(|| format!("creating {}", out.display()))?;
    for (name, contents) in files.iter() {
        write(&out.join(name), contents)?;
    }
    Ok(())
}

fn component(core: &Path, out: &Path) -> Result<()> {
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&read(core)?)
        .with_context(|| {
            format!(
                "{} is not a core module with type information",
                core.display()
            )
        })?
        .adapter(
            adapter::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
            adapter::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
        )?
        .encode()
        .with_context(|| format!("making a component of {}", core.display()))?;
    write(out, &component)
}

fn describe(file: &Path) -> Result<()> {
    let DecodedWasm::Component(resolve, world) = decode(&read(file)?)? else {
        bail!("{} is a WIT package, not a component", file.display());
    };
    let world = resolve
        .worlds
        .get(world)
        .ok_or_else(|| anyhow!("{} has no world", file.display()))?;
    let mut out = std::io::stdout().lock();
    for (kind, items) in [("import", &world.imports), ("export", &world.exports)] {
        for (key, item) in items {
            writeln!(out, "{kind} {}", name(&resolve, key, item))?;
        }
    }
    Ok(())
}

fn name(resolve: &Resolve, key: &WorldKey, item: &WorldItem) -> String {
    let kind = match item {
        WorldItem::Interface { .. } => "",
        WorldItem::Function(_) => " (function)",
        WorldItem::Type { .. } => " (type)",
    };
    format!("{}{kind}", resolve.name_world_key(key))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("reading {}", file.display()))
}

/// Leaves an unchanged file alone, so that whoever depends on its time does not rebuild.
fn write(file: &Path, contents: &[u8]) -> Result<()> {
    if std::fs::read(file).is_ok_and(|old| old == contents) {
        return Ok(());
    }
    std::fs::write(file, contents).with_context(|| format!("writing {}", file.display()))
}
