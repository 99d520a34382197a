//! The command lines of the documentation give the configurations that they promise.

use clap::CommandFactory;

use super::*;
use crate::config::{Config, ConfigErrors, Router, Watch};

fn config(line: &str) -> Result<Config, ConfigErrors> {
    let arguments = Arguments::try_parse_from(line.split(' ')).expect(line);
    let secret = ("TIDEGATE_SECRET".to_owned(), "0123456789abcdef".to_owned());
    Config::load(None, [secret].into_iter(), &arguments.command.overrides())
}

#[test]
fn the_command_line_is_consistent_and_helps_with_examples() {
    Arguments::command().debug_assert();
    let help = Arguments::command().render_long_help().to_string();
    for words in [
        "Examples:",
        "tidegate serve --listen",
        "TIDEGATE_SECRET",
        "Exit codes",
    ] {
        assert!(help.contains(words), "{words}");
    }
}

#[test]
fn serve_takes_listeners_a_folder_and_a_plugin() {
    let line = "tidegate serve --listen ws://127.0.0.1:7272 --listen text://127.0.0.1:7273 \
                --static web --admin 127.0.0.1:7280 --instances 3 --no-watch \
                --command c.wasm chat.wasm";
    let config = config(line).unwrap();
    assert_eq!(config.listeners.len(), 2);
    assert!(config.listeners[0].static_dir.is_some());
    assert!(config.listeners[1].static_dir.is_none());
    assert_eq!(config.admin.listen, Some("127.0.0.1:7280".parse().unwrap()));
    assert_eq!(config.worker.instances, 3);
    assert_eq!(config.plugins.len(), 1);
    assert_eq!(config.plugins[0].watch, Watch::Off);
    assert_eq!(&*config.plugins[0].tenant, "default");
    assert_eq!(config.commands[0].file.to_str(), Some("c.wasm"));
    assert_eq!(&*config.commands[0].tenant, "default");
    assert_eq!(config.commands[0].watch, Watch::Off);
}

#[test]
fn register_takes_its_address() {
    let config = config("tidegate register --listen 127.0.0.1:1237").unwrap();
    assert_eq!(config.register.listen, "127.0.0.1:1237".parse().unwrap());
}

#[test]
fn gateway_takes_registers_addresses_and_listeners() {
    let line = "tidegate gateway --register 127.0.0.1:1236 --register reg-2:1236 \
                --lan 127.0.0.1:2001 --lan-bind 0.0.0.0:2001 --listen ws://127.0.0.1:7272 \
                --listen text://127.0.0.1:7273 --router rand --name g1 --shards 2 \
                --admin 127.0.0.1:0 --command c.wasm --set gateway.choice=random";
    let config = config(line).unwrap();
    let registers: Vec<&str> = config
        .gateway
        .registers
        .iter()
        .map(|it| it.as_str())
        .collect();
    assert_eq!(registers, ["127.0.0.1:1236", "reg-2:1236"]);
    assert_eq!(config.gateway.lan, "127.0.0.1:2001".parse().unwrap());
    assert_eq!(
        config.gateway.lan_bind,
        Some("0.0.0.0:2001".parse().unwrap())
    );
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(config.gateway.router, Router::Rand);
    assert_eq!(config.gateway.choice, crate::config::Choice::Random);
    assert_eq!((&*config.gateway.name, config.gateway.shards), ("g1", 2));
    assert_eq!(config.commands[0].file.to_str(), Some("c.wasm"));
}

#[test]
fn worker_takes_registers_tags_and_a_plugin() {
    let line = "tidegate worker --register 127.0.0.1:1236 --name w1 --tag a --tag b \
                --instances 2 --admin 127.0.0.1:0 --no-watch chat.wasm";
    let config = config(line).unwrap();
    assert_eq!(&*config.worker.name, "w1");
    assert_eq!(config.worker.tags, ["a".into(), "b".into()]);
    assert_eq!(config.worker.instances, 2);
    assert_eq!(
        config.plugins[0].file.as_ref().unwrap().to_str(),
        Some("chat.wasm")
    );
}

#[test]
fn a_wrong_flag_is_told_with_its_name() {
    let error = config("tidegate serve --listen wx://127.0.0.1:7272 --instances many chat.wasm")
        .expect_err("both flags are wrong")
        .to_string();
    assert_eq!(
        error,
        "--instances: `instances` in [worker]: `many` is not a whole number\n\
         --listen: `listen` in [[gateway.listener]]: `wx` is not one of `ws`, `tcp`, `text`, \
         `frame`, did you mean `ws`?\n\
         PLUGIN: the plugin `chat.wasm` cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn check_and_config_take_files() {
    let line = "tidegate check --config t.toml a.wasm b.wasm".split(' ');
    let Command::Check(check) = Arguments::try_parse_from(line).unwrap().command else {
        panic!("check");
    };
    assert_eq!(check.plugins.len(), 2);
    let (given, none) = (Some("t.toml".into()), None);
    for variable in [None, Some("other.toml".into()), Some("".into())] {
        assert_eq!(check.common.config_file(variable), given);
    }
    let line = "tidegate config --default".split(' ');
    let Command::Config(print) = Arguments::try_parse_from(line).unwrap().command else {
        panic!("config");
    };
    assert!(print.default);
    assert_eq!(print.common.config_file(Some("t.toml".into())), given);
    assert_eq!(print.common.config_file(Some("".into())), none);
}
