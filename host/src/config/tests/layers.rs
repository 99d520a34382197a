//! What is given where, and what wins.

use super::*;

#[test]
fn mistakes_in_the_environment_name_the_variable() {
    for (name, value, message) in [
        (
            "TIDEGATE_GATEWAY__LAN",
            "here",
            "TIDEGATE_GATEWAY__LAN: `lan` in [gateway]: `here` is not an IPv4 address with a port, \
             like 127.0.0.1:2000",
        ),
        (
            "TIDEGATE_GATEWAY__LANN",
            "x",
            "TIDEGATE_GATEWAY__LANN: unknown key `lann` in [gateway], did you mean `lan`?",
        ),
        (
            "TIDEGATE_WORKER__POOLING",
            "yes",
            "TIDEGATE_WORKER__POOLING: `pooling` in [worker]: `yes` is not true or false",
        ),
        (
            "TIDEGATE_GATEWAY__LISTENER__3__PATH",
            "/",
            "TIDEGATE_GATEWAY__LISTENER__3__PATH: there is no listener 3, the next new one is 0",
        ),
    ] {
        let error = load("", &[(name, value)], Purpose::Check, &[]).expect_err(name);
        assert_eq!(error, message);
    }
}

#[test]
fn the_environment_overrides_the_file_and_the_command_line_overrides_both() {
    let text = "[gateway]\nname = \"file\"\nshards = 1\nlan = \"127.0.0.1:1\"\n";
    let env = [
        ("TIDEGATE_SECRET", SECRET),
        ("TIDEGATE_GATEWAY__SHARDS", "2"),
        ("TIDEGATE_GATEWAY__LAN", "127.0.0.1:2"),
        ("TIDEGATE_GATEWAY__TAGS", "a, b"),
        ("TIDEGATE_GATEWAY__LISTENER__0__PATH", "/chat"),
        ("TIDEGATE_PORT", "tcp://10.0.0.1:80"),
        ("HOME", "/"),
    ];
    let flags = [Override::Value {
        flag: "--lan".into(),
        path: "gateway.lan".into(),
        words: "127.0.0.1:3".into(),
    }];
    let config = load(text, &env, Purpose::Gateway, &flags).unwrap();
    assert_eq!(&*config.gateway.name, "file");
    assert_eq!(config.gateway.shards, 2);
    assert_eq!(config.gateway.lan, "127.0.0.1:3".parse().unwrap());
    assert_eq!(config.gateway.tags, ["a".into(), "b".into()]);
    assert_eq!(config.listeners[0].path.as_deref(), Some("/chat"));
    assert_eq!(config.secret.expose(), SECRET.as_bytes());
    assert!(config.warnings().is_empty());
}

#[test]
fn listeners_of_the_environment_may_come_in_any_order() {
    let names: Vec<String> = (0..12)
        .rev()
        .map(|at| format!("TIDEGATE_GATEWAY__LISTENER__{at}__LISTEN"))
        .collect();
    let env: Vec<(&str, &str)> = names
        .iter()
        .map(|name| (name.as_str(), "tcp://127.0.0.1:0"))
        .collect();
    let config = load("", &env, Purpose::Check, &[]).unwrap();
    assert_eq!(config.listeners.len(), 12);
}

#[test]
fn flags_make_listeners_and_plugins_and_keep_the_other_settings_of_the_plugin() {
    let text =
        "[[plugin]]\nfile = \"old.wasm\"\ncpu-ms = 7\nconfig = { a = [1, 2.5, { b = true }] }\n";
    let flags = [
        Override::Listeners(vec!["ws://localhost:1".into(), "text://127.0.0.1:2".into()]),
        Override::Static("web".into()),
        Override::Plugin("new.wasm".into()),
        Override::NoWatch,
        Override::Set("gateway.listener.1.queue-policy=drop-old".into()),
    ];
    let config = load(text, &[], Purpose::Serve, &flags).unwrap();
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(&*config.listeners[0].label(), "ws://127.0.0.1:1");
    assert_eq!(
        config.listeners[0].static_dir.as_deref(),
        Some(Path::new("web"))
    );
    assert_eq!(config.listeners[1].static_dir, None);
    assert_eq!(config.listeners[1].queue_policy, QueuePolicy::DropOld);
    let [plugin] = &config.plugins[..] else {
        panic!("one plugin");
    };
    assert_eq!(plugin.file.as_deref(), Some(Path::new("new.wasm")));
    assert_eq!((plugin.cpu_ms, plugin.watch), (7, Watch::Off));
    let given = serde_json::to_string(&plugin.config).unwrap();
    assert_eq!(given, r#"{"a":[1,2.5,{"b":true}]}"#);
}

#[test]
fn without_a_listener_the_documented_default_is_served() {
    let secret = [("TIDEGATE_SECRET", "0123456789abcdef")];
    let plugin = Override::Plugin("a.wasm".to_owned());
    let urls = |config: &Config| {
        let urls = config.listeners.iter().map(|it| it.listen.to_string());
        urls.collect::<Vec<_>>()
    };
    let config = load("", &[], Purpose::Serve, std::slice::from_ref(&plugin)).unwrap();
    assert_eq!(urls(&config), ["ws://127.0.0.1:7272"]);
    assert!(!config.links() && !config.is_given("gateway.listener"));
    let config = load("", &secret, Purpose::Gateway, &[]).unwrap();
    assert_eq!(urls(&config), ["ws://127.0.0.1:7272"]);
    // What is given takes its place or changes it.
    let listen = Override::Listeners(vec!["tcp://127.0.0.1:1".to_owned()]);
    let config = load("", &[], Purpose::Serve, &[listen, plugin.clone()]).unwrap();
    assert_eq!(urls(&config), ["tcp://127.0.0.1:1"]);
    let folder = Override::Static("web".to_owned());
    let path = Override::Set("gateway.listener.0.path=/chat".to_owned());
    let config = load("", &[], Purpose::Serve, &[folder, plugin.clone(), path]).unwrap();
    assert_eq!(urls(&config), ["ws://127.0.0.1:7272"]);
    assert_eq!(
        config.listeners[0].static_dir.as_deref(),
        Some(Path::new("web"))
    );
    assert_eq!(config.listeners[0].path.as_deref(), Some("/chat"));
    let none = load("[gateway]\nlistener = []\n", &[], Purpose::Serve, &[plugin]);
    let none = none.expect_err("an empty list is no default");
    assert!(none.starts_with("etc/t.toml:2:12: no listener: "), "{none}");
    let config = load("", &[], Purpose::Check, &[]).unwrap();
    assert!(config.listeners.is_empty());
}

#[test]
fn serve_makes_its_own_secret_unless_nodes_may_connect() {
    let text = "[[gateway.listener]]\n[[plugin]]\nfile = \"a.wasm\"\n";
    let config = load(text, &[], Purpose::Serve, &[]).unwrap();
    assert!(!config.links());
    assert_eq!(config.secret.expose().len(), 32);
    let text = format!("{text}[register]\nlisten = \"127.0.0.1:0\"\n");
    let error = load(&text, &[], Purpose::Serve, &[]).expect_err("nodes may connect");
    assert!(error.contains("no secret"), "{error}");
}

#[test]
fn the_secret_is_never_shown_and_never_taken_from_the_command_line() {
    let config = load(
        &format!("secret = \"{SECRET}\""),
        &[],
        Purpose::Register,
        &[],
    )
    .unwrap();
    assert!(!format!("{config:?}").contains(SECRET));
    assert!(!effective_file(&config).contains(SECRET));
    let flags = [Override::Set(format!("secret={SECRET}"))];
    let error = load("", &[], Purpose::Check, &flags).expect_err("it is visible");
    assert!(error.starts_with("--set: the secret is not given on the command line"));
    assert!(!error.contains(SECRET));
    let short = load("secret = \"short\"", &[], Purpose::Register, &[]);
    let error = short.expect_err("it can be guessed");
    assert!(
        error.contains("`secret` has 5 bytes and can be guessed, 16 or more are right"),
        "{error}"
    );
    assert!(!error.contains("short"), "{error}");
}
