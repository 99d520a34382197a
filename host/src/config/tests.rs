//! Each kind of mistake once, with the exact text; the layers and their order; the reference.

use super::*;

const SECRET: &str = "0123456789abcdef";

fn overrides(purpose: Purpose, flags: &[Override]) -> Overrides {
    Overrides {
        purpose,
        flags: flags.to_vec(),
    }
}

fn load(
    text: &str,
    env: &[(&str, &str)],
    purpose: Purpose,
    flags: &[Override],
) -> Result<Config, String> {
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::of_text("etc/t.toml", text, env, &overrides(purpose, flags), vec![])
        .map_err(|errors| errors.to_string())
}

fn refused(text: &str) -> String {
    load(text, &[], Purpose::Check, &[]).expect_err(text)
}

#[test]
fn every_mistake_in_a_file_is_told_with_line_column_and_what_would_be_right() {
    for (text, message) in [
        (
            "[[gateway.listener]]\nlisten = \"ws://127.0.0.1:1\"\n  pin-interval = 3\n",
            "etc/t.toml:3:3: unknown key `pin-interval` in [[gateway.listener]], did you mean \
             `ping-interval-ms`?",
        ),
        (
            "[gatewy]\n",
            "etc/t.toml:1:2: unknown key `gatewy` in the top level, did you mean `gateway`?",
        ),
        (
            "[log]\ncolour = true\n",
            "etc/t.toml:2:1: unknown key `colour` in [log], its keys are `level`, `format`, `file`",
        ),
        (
            "[link]\nlease-ms = \"10s\"\n",
            "etc/t.toml:2:12: `lease-ms` in [link]: expected a whole number, found text",
        ),
        (
            "[gateway]\nshards = 2000\n",
            "etc/t.toml:2:10: `shards` in [gateway]: 2000 is out of range, 0 to 1_024 is right",
        ),
        (
            "[gateway]\nshards = -1\n",
            "etc/t.toml:2:10: `shards` in [gateway]: -1 is out of range, 0 to 1_024 is right",
        ),
        (
            "[gateway]\nrouter = \"band\"\n",
            "etc/t.toml:2:10: `router` in [gateway]: `band` is not one of `bind`, `rand`, `hash`, did \
             you mean `bind`?",
        ),
        (
            "[[tenant]]\nrouter = \"hash\"\nrouter-key = \"room\"\n",
            "etc/t.toml:3:14: `router-key` in [[tenant]]: `room` is not `uid` or `session:KEY`, like \
             `session:room`",
        ),
        (
            "[[tenant]]\nrouter = \"hash\"\nrouter-key = \"session:\"\n",
            "etc/t.toml:3:14: `router-key` in [[tenant]]: `session:` is not `uid` or `session:KEY`, \
             like `session:room`",
        ),
        (
            "[gateway]\nlan = \"[::1]:2000\"\n",
            "etc/t.toml:2:7: `lan` in [gateway]: `[::1]:2000` is not an IPv4 address with a port, \
             like 127.0.0.1:2000",
        ),
        (
            "[gateway]\nregisters = [\"127.0.0.1:1236\",\n  \"127.0.0.1\"]\n",
            "etc/t.toml:3:3: `registers` in [gateway]: `127.0.0.1` is not a host with a port, like \
             127.0.0.1:1236",
        ),
        (
            "[[gateway.listener]]\nlisten = \"wss://127.0.0.1:1\"\n",
            "etc/t.toml:2:10: `listen` in [[gateway.listener]]: `wss` is not there yet: let a \
             proxy end TLS and forward to ws://, tcp://, text:// or frame://",
        ),
        (
            "[[gateway.listener]]\nlisten = \"ws://127.0.0.1:1/chat\"\n",
            "etc/t.toml:2:10: `listen` in [[gateway.listener]]: `ws://127.0.0.1:1/chat` has a \
             path: which path may upgrade is the listener's key `path`",
        ),
        (
            "[gateway.listener]\nlisten = \"ws://127.0.0.1:1\"\n",
            "etc/t.toml:1:10: `listener` in [gateway]: expected tables [[gateway.listener]], found \
             a table",
        ),
        (
            "link = 3\n",
            "etc/t.toml:1:8: `link` in the top level: expected the table [link], found a whole \
             number",
        ),
        (
            "[log]\nlevel = \"info,x=loud\"\n",
            "etc/t.toml:2:9: `level` in [log]: `loud` is no level; levels are `off`, `error`, `warn`, \
             `info`, `debug`, `trace`, alone or behind the name of a part, like \
             `info,tidegate_cluster=debug`",
        ),
        (
            "[worker]\ntags = [\"\"]\n",
            "etc/t.toml:2:9: `tags` in [worker]: a name has 1 to 255 bytes, this one has 0",
        ),
        (
            "secret = 12345\n",
            "etc/t.toml:1:10: `secret` in the top level: expected text, found a whole number",
        ),
        (
            "[register]\nlease-ms = 99999999999999999999\n",
            "etc/t.toml:2:12: `lease-ms` in [register]: 99999999999999999999 is out of range, 1 to \
             86_400_000 is right",
        ),
    ] {
        assert_eq!(refused(text), message);
    }
}

#[test]
fn keys_that_do_not_fit_each_other_are_told_at_the_one_that_was_given() {
    for (text, message) in [
        (
            "[link]\nlease-ms = 3_000\n",
            "etc/t.toml:2:12: `link.lease-ms` is 3000, but one late heartbeat must not end a \
             lease: at least 4000 is right, twice `link.heartbeat-ms`",
        ),
        (
            "[watchdog]\nend-ms = 10\n",
            "etc/t.toml:2:10: `watchdog.end-ms` is 10, less than `watchdog.stuck-ms`, 5000: 0 for \
             never, or more is right",
        ),
        (
            "[link]\nreconnect-ms-max = 10\n",
            "etc/t.toml:2:20: `link.reconnect-ms-min` is 50, more than `link.reconnect-ms-max`, 10",
        ),
        (
            "[gateway]\nlan = \"0.0.0.0:2000\"\n",
            "etc/t.toml:2:7: `gateway.lan` is announced to other nodes, and 0.0.0.0 is no address \
             that they can dial: announce a real one and put 0.0.0.0:2000 in `lan-bind`",
        ),
        (
            "[[plugin]]\nfile = \"a.wasm\"\n\n[[plugin]]\nfile = \"b.wasm\"\n",
            "etc/t.toml:4:1: two plugins for the tenant `default`: a tenant has one, give this \
             one another `tenant`",
        ),
        (
            "[[plugin]]\nfile = \"a.wasm\"\nwall-ms = 100\n",
            "etc/t.toml:3:11: `wall-ms` in [[plugin]] is 100, less than its `cpu-ms`, 500",
        ),
        (
            "[[command]]\nfile = \"a.wasm\"\n\n[[command]]\nfile = \"b.wasm\"\n",
            "etc/t.toml:4:1: two commands for the tenant `default`: a tenant has one, give this \
             one another `tenant`",
        ),
        (
            "[[command]]\nwall-ms = 5\n",
            "etc/t.toml:1:1: a [[command]] needs its `file`, like file = \"chat.wasm\"\n\
             etc/t.toml:2:11: `wall-ms` in [[command]] is 5, less than its `cpu-ms`, 500",
        ),
        (
            "[[tenant]]\nrouter-key = \"session:room\"\n",
            "etc/t.toml:2:14: `router-key` in [[tenant]]: it works with router = \"hash\" only, and \
             this tenant's is \"bind\"",
        ),
        (
            "[[tenant]]\nname = \"a\"\n[[tenant]]\nname = \"a\"\n",
            "etc/t.toml:4:8: two [[tenant]] for the tenant `a`: put the keys of both into one",
        ),
        (
            "[[gateway.listener]]\nlisten = \"text://127.0.0.1:1\"\nstatic = \"web\"\n",
            "etc/t.toml:3:10: `static` in [[gateway.listener]]: it works with ws:// only, this \
             listener is text://127.0.0.1:1",
        ),
        (
            "[[gateway.listener]]\nhealth-path = \"up\"\n",
            "etc/t.toml:2:15: `health-path` in [[gateway.listener]]: `/up` is right, with a slash",
        ),
        (
            "[gateway]\nsession-bytes-max = 8388608\n",
            "etc/t.toml:2:21: `link.queue-bytes-max` is 67108864, but sessions travel on links and may \
             have 8388608 bytes each (`gateway.session-bytes-max`): at least 134217728 is right, 16 of \
             them",
        ),
        (
            "[[gateway.listener]]\n[[gateway.listener]]\nlisten = \"tcp://127.0.0.1:7272\"\n",
            "etc/t.toml:3:10: `listen` in [[gateway.listener]]: two listeners for 127.0.0.1:7272, each \
             needs an address of its own",
        ),
    ] {
        assert_eq!(refused(text), message);
    }
}

#[test]
fn names_and_tags_that_do_not_fit_a_hello_are_refused() {
    let tag = "t".repeat(255);
    let text = format!(
        "[worker]\ntags = [{}]\n",
        vec![format!("\"{tag}\""); 8].join(", ")
    );
    assert_eq!(
        refused(&text),
        "etc/t.toml:2:8: `worker.tags`: name and tags travel in a node's hello and have 2054 bytes \
         there, 2048 are right"
    );
}

#[test]
fn all_mistakes_are_told_together_in_order_of_their_lines() {
    let text = "[log]\nformat = \"yaml\"\n[link]\nhearbeat-ms = 1\n[worker]\npooling = 1\n";
    assert_eq!(
        refused(text),
        "etc/t.toml:2:10: `format` in [log]: `yaml` is not one of `text`, `json`\n\
         etc/t.toml:4:1: unknown key `hearbeat-ms` in [link], did you mean `heartbeat-ms`?\n\
         etc/t.toml:6:11: `pooling` in [worker]: expected true or false, found a whole number"
    );
}

#[test]
fn broken_syntax_is_told_with_its_place_and_without_the_line() {
    let error = refused("secret = \"unfinished-secret\nx = 1\n");
    assert!(error.starts_with("etc/t.toml:1:"), "{error}");
    assert!(!error.contains("unfinished"), "{error}");
}

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
fn settings_of_a_tenant_without_a_listener_are_refused_where_clients_come() {
    let text = format!("secret = \"{SECRET}\"\n[[tenant]]\nname = \"chta\"\n");
    for purpose in [Purpose::Worker, Purpose::Register, Purpose::Check] {
        let plugin = [Override::Plugin("chat.wasm".into())];
        assert!(load(&text, &[], purpose, &plugin).is_ok(), "{purpose:?}");
    }
    assert_eq!(
        load(&text, &[], Purpose::Gateway, &[]).expect_err("nobody is of that tenant"),
        "etc/t.toml:3:8: the [[tenant]] `chta` has no listener here, so that nothing of it would \
         matter: name the `tenant` of a [[gateway.listener]]"
    );
}

#[test]
fn schedules_that_cannot_be_are_refused_with_what_would_be_right() {
    let with = |lines: &str| refused(&format!("[[schedule]]\nname = \"report\"\n{lines}\n"));
    for (lines, message) in [
        (
            "cron = \"30 2 * *\"",
            "etc/t.toml:3:8: `cron` in [[schedule]]: `30 2 * *` is not an expression of cron, like `30 2 * * *`: \
             it has 4 fields; five are right",
        ),
        (
            "cron = \"99 2 * * *\"",
            "etc/t.toml:3:8: `cron` in [[schedule]]: `99 2 * * *` is not an expression of cron",
        ),
        (
            "cron = \"0 0 30 2 *\"",
            "etc/t.toml:3:8: `cron` in [[schedule]]: `0 0 30 2 *` is never due: no month has such a day",
        ),
        (
            "cron = \"0 0 * * *\"\ntime-zone = \"Europe/Berlim\"",
            "etc/t.toml:4:13: `time-zone` in [[schedule]]: `Europe/Berlim` is not a time zone, like \
             `Europe/Berlin` or `UTC`, did you mean `Europe/Berlin`?",
        ),
        (
            "cron = \"0 0 * * *\"\nmissed = \"skipp\"",
            "etc/t.toml:4:10: `missed` in [[schedule]]: `skipp` is not one of `skip`, `once`, `all`, did you \
             mean `skip`?",
        ),
        (
            "cron = \"0 0 * * *\"\n[[schedule]]\nname = \"report\"\ncron = \"0 1 * * *\"",
            "etc/t.toml:5:8: two [[schedule]] of the tenant `default` have the name `report`: give this one \
             another",
        ),
        (
            "",
            "etc/t.toml:1:1: a [[schedule]] needs its `cron`, like name = \"report\" and cron = \"30 2 * * *\"",
        ),
    ] {
        let said = with(lines);
        assert!(said.starts_with(message), "{lines}: {said}");
    }
    let text = format!(
        "secret = \"{SECRET}\"\n[[schedule]]\nname = \"report\"\ntenant = \"chta\"\ncron = \"@daily\"\n"
    );
    assert_eq!(
        load(&text, &[], Purpose::Gateway, &[]).expect_err("nobody is of that tenant"),
        "etc/t.toml:4:10: the [[schedule]] `report` is of the tenant `chta`, which has no listener here: name the \
         `tenant` of a [[gateway.listener]]"
    );
    assert!(load(&text, &[], Purpose::Check, &[]).is_ok());
    let many = "[[schedule]]\nname = \"a\"\ncron = \"@daily\"\n".repeat(257);
    assert!(refused(&many).contains("257 [[schedule]]: a configuration may have 256"));
}

#[test]
fn tags_that_the_only_worker_lacks_are_refused() {
    let text = "[[tenant]]\nworker-tags = [\"eu\", \"gpu\"]\n[worker]\ntags = [\"eu\"]\n";
    let plugin = [Override::Plugin("chat.wasm".into())];
    let load = |text: &str, purpose| load(text, &[("TIDEGATE_SECRET", SECRET)], purpose, &plugin);
    assert_eq!(
        load(text, Purpose::Serve).expect_err("nobody has both"),
        "etc/t.toml:2:15: `worker-tags` in [[tenant]]: the only worker of `default` is the one of \
         this process, and it has no tag `gpu`: put that into `worker.tags`, or let other workers \
         link with `gateway.lan`"
    );
    for purpose in [Purpose::Gateway, Purpose::Worker, Purpose::Check] {
        assert!(load(text, purpose).is_ok(), "{purpose:?}");
    }
    let more = format!("{text}[gateway]\nlan = \"127.0.0.1:2000\"\n");
    assert!(load(&more, Purpose::Serve).is_ok(), "others may come");
    let both = text.replace("tags = [\"eu\"]", "tags = [\"gpu\", \"eu\"]");
    assert!(load(&both, Purpose::Serve).is_ok());
}

#[test]
fn relative_paths_of_the_file_start_at_its_folder() {
    let text = "[[plugin]]\nfile = \"p/chat.wasm\"\n[worker]\ncache-dir = \"/c\"\n";
    let config = load(text, &[], Purpose::Check, &[]).unwrap();
    assert_eq!(
        config.plugins[0].file.as_deref(),
        Some(Path::new("etc/p/chat.wasm"))
    );
    assert_eq!(config.worker.cache_dir, CacheDir::At("/c".into()));
}

#[test]
fn what_a_command_cannot_do_without_is_asked_for() {
    let no_plugin = "no plugin: name a component file, like `chat.wasm`, or give a \
                     [[plugin]]";
    let no_secret = "no secret, which nodes need to trust each other: set \
                     TIDEGATE_SECRET to the same text on every node, for example what `openssl \
                     rand -hex 32` prints";
    for (purpose, messages) in [
        (Purpose::Serve, vec![no_plugin]),
        (Purpose::Gateway, vec![no_secret]),
        (Purpose::Worker, vec![no_plugin, no_secret]),
        (Purpose::Register, vec![no_secret]),
    ] {
        let error = load("", &[], purpose, &[]).expect_err("nothing is given");
        assert_eq!(error, messages.join("\n"), "{purpose:?}");
    }
    assert!(load("", &[], Purpose::Check, &[]).is_ok());
    let text = "[[gateway.listener]]\ntenant = \"x\"\n[[plugin]]\nfile = \"a.wasm\"\n";
    assert_eq!(
        load(text, &[], Purpose::Serve, &[]).expect_err("x has no plugin"),
        "etc/t.toml:2:10: the listener ws://127.0.0.1:7272 is for the tenant `x`, for which there \
         is no plugin"
    );
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

#[test]
fn the_default_file_gives_the_defaults_also_with_every_table_switched_on() {
    let defaults = load("", &[], Purpose::Check, &[]).unwrap();
    let file = default_file();
    let read = load(&file, &[], Purpose::Check, &[]).unwrap();
    let values = |config: &Config| Config {
        places: Places::default(),
        ..config.clone()
    };
    assert_eq!(values(&read), values(&defaults));
    let (before, after) = file.split_once("#[[gateway.listener]]").unwrap();
    // An example token that could be used as it stands would be.
    let on = format!("{before}[[gateway.listener]]{after}")
        .replace("#[[tenant]]", "[[tenant]]")
        .replace("#[[plugin]]", "[[plugin]]")
        .replace("#[[command]]", "[[command]]")
        .replace("#token = \"…\"", &format!("#token = \"{SECRET}\""))
        .replace("#token-file", "# token-file");
    let on: String = on
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            Some(_) | None => format!("{line}\n"),
        })
        .collect();
    let on = load(&on, &[], Purpose::Check, &[]).unwrap();
    assert_eq!(on.listeners.len(), 1);
    assert_eq!(
        on.plugins[0].file.as_deref(),
        Some(Path::new("etc/chat.wasm"))
    );
    assert_eq!(on.commands[0].file, Path::new("etc/commands.wasm"));
}

#[test]
fn what_is_printed_as_effective_can_be_read_again() {
    let text = "[gateway]\ntags = [\"a\\\"b\"]\n[[gateway.listener]]\nstatic = \"/w\"\n";
    let config = load(text, &[], Purpose::Check, &[]).unwrap();
    let again = load(&effective_file(&config), &[], Purpose::Check, &[]).unwrap();
    assert_eq!(again.gateway, config.gateway);
    assert_eq!(again.listeners, config.listeners);
}

#[test]
fn what_is_wrong_between_defaults_is_told_at_their_tables() {
    let error = refused("\n[[gateway.listener]]\n[[gateway.listener]]\n");
    assert!(error.starts_with("etc/t.toml:3:1: `listen` in"), "{error}");
    assert!(
        error.contains("two listeners for 127.0.0.1:7272"),
        "{error}"
    );
}

#[test]
fn a_mistyped_level_is_refused_since_it_would_silence_the_log() {
    for (level, wrong) in [
        ("lod", "lod"),
        ("inf", "inf"),
        ("", ""),
        ("info,lod", "lod"),
        ("a=2", "2"),
    ] {
        let error = refused(&format!("[log]\nlevel = \"{level}\"\n"));
        assert!(error.starts_with("etc/t.toml:2:9: "), "{error}");
        assert!(error.contains(&format!("`{wrong}` is no level")), "{error}");
    }
    assert!(refused("[log]\nlevel = \"inf\"\n").contains("did you mean `info`?"));
    for level in [
        "trace",
        "WARN",
        "off",
        "info,tidegate_cluster=debug,hyper=error",
    ] {
        load(
            &format!("[log]\nlevel = \"{level}\"\n"),
            &[],
            Purpose::Check,
            &[],
        )
        .unwrap();
    }
}

#[test]
fn what_differs_between_two_files_is_named_whether_it_came_changed_or_went() {
    let secret = format!("secret = \"{SECRET}\"\n");
    let file = |text: &str| load(&format!("{secret}{text}"), &[], Purpose::Check, &[]).unwrap();
    let token = |name, more| {
        format!("[[api-token]]\nname = \"{name}\"\ntoken-file = \"/t/{name}\"\n{more}")
    };
    for (old, new, says) in [
        (
            "[gateway]\nshards = 2\n",
            "[gateway]\nshards = 3\n",
            "[gateway] shards = 3 (was 2)",
        ),
        (
            "[gateway]\nshards = 2\n",
            "",
            "[gateway] shards = 0 (was 2)",
        ),
        (
            "[log]\nfile = \"/l\"\n",
            "",
            "[log] file is not set (was \"/l\")",
        ),
        (
            "",
            "[watchdog]\nend-ms = 9000\n",
            "[watchdog] end-ms = 9_000 (was 30_000)",
        ),
        (
            "[[tenant]]\nrouter = \"rand\"\n",
            "[[tenant]]\n",
            "[[tenant]] (name \"default\") router is not set (was \"rand\")",
        ),
        (
            "[[plugin]]\nfile = \"/p\"\nrollback-seconds = 9\n",
            "[[plugin]]\nfile = \"/p\"\n",
            "[[plugin]] (tenant \"default\") rollback-seconds = 120 (was 9)",
        ),
        (
            "[[plugin]]\nfile = \"/p\"\nconfig = { key = \"hush\" }\n",
            "[[plugin]]\nfile = \"/p\"\nconfig = { key = \"hist\" }\n",
            "[[plugin]] (tenant \"default\") config is another one",
        ),
        (
            "[[gateway.listener]]\nlisten = \"tcp://127.0.0.1:9\"\n[[gateway.listener]]\n",
            "[[gateway.listener]]\n",
            "[[gateway.listener]] (\"tcp://127.0.0.1:9\") is gone",
        ),
        (
            &*(token("a", "deploy = true\n") + &token("b", "")),
            &*(token("b", "") + &token("a", "")),
            "[[api-token]] (tenant \"default\", name \"a\") deploy = false (was true)",
        ),
        (
            &*(token("a", "") + &token("b", "")),
            &*token("b", ""),
            "[[api-token]] (tenant \"default\", name \"a\") is gone",
        ),
        (
            &*token("a", ""),
            &*(token("b", "") + &token("a", "")),
            "name \"b\") is new",
        ),
    ] {
        let (old, new) = (file(old), file(new));
        assert!(differences(&old, &old).is_empty() && differences(&new, &new).is_empty());
        let found = differences(&old, &new);
        let [found] = &found[..] else {
            panic!("{says}: {found:?}")
        };
        assert!(found.text.ends_with(says), "{} is not {says}", found.text);
        assert!(!found.text.contains("hush") && !found.text.contains("hist"));
    }
}

#[test]
fn another_secret_is_named_and_one_that_was_made_up_is_not() {
    let of = |text: &str| {
        let plugin = "[[plugin]]\nfile = \"/p\"\n";
        load(&format!("{text}\n{plugin}"), &[], Purpose::Serve, &[]).unwrap()
    };
    assert!(differences(&of(""), &of("")).is_empty());
    let [one, two] = ["first", "other"].map(|it| of(&format!("secret = \"{SECRET}{it}\"")));
    let found = differences(&one, &two);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].text, "secret is another one");
    let found = differences(&one, &of(""));
    assert!(found[0].text.starts_with("secret is not set"), "{found:?}");
    assert!(!format!("{found:?}").contains(SECRET));
}

/// With `TIDEGATE_BLESS=1` the reference is written instead of compared.
#[test]
fn the_reference_lists_every_key_with_its_default() {
    const BEGIN: &str = "<!-- keys: written by the tests of host/src/config -->\n";
    const END: &str = "<!-- end of keys -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the mark of the beginning");
    let (_, after) = rest.split_once(END).expect("the mark of the end");
    let wanted = format!("{before}{BEGIN}\n{}{END}{after}", reference::markdown());
    if std::env::var_os("TIDEGATE_BLESS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(
        found == wanted,
        "docs/configuration.md is out of date, `TIDEGATE_BLESS=1 cargo test` writes it"
    );
}

#[test]
fn mistakes_in_keys_between_them_and_in_files_are_told_at_once_without_echoes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.toml");
    std::fs::write(folder.path().join("taken"), "").unwrap();
    // `lease-ms` and the mistyped `file` would echo if their defaults were compared with the rest.
    let text = "[deploy]\nstate-dir = \"taken/state\"\n[link]\nlease-ms = \"10s\"\n\
                heartbeat-ms = 60000\nreconnect-ms-min = 500\nreconnect-ms-max = 400\n\
                [[plugin]]\nflie = \"chat.wasm\"\n[[plugin]]\nfile = \"other.wasm\"\n\
                tenant = \"other\"\n";
    std::fs::write(&file, text).unwrap();
    let overrides = overrides(Purpose::Check, &[]);
    let error = Config::load(Some(&file), std::iter::empty(), &overrides).expect_err("all of it");
    let said = error.to_string();
    let lines: Vec<&str> = said.lines().collect();
    let place = |line: usize| format!("{}:{line}:", file.display());
    let wanted = [
        (2, "is not a folder"),
        (4, "expected a whole number"),
        (6, "more than `link.reconnect-ms-max`"),
        (9, "did you mean `file`"),
        (11, "cannot be read"),
    ];
    assert_eq!(lines.len(), wanted.len() + 1, "{said}");
    let told = |line: usize, text: &str| {
        let place = place(line);
        let is_it = |it: &&&str| it.starts_with(&place) && it.contains(text);
        lines.iter().filter(is_it).count() == 1
    };
    for (line, text) in wanted {
        assert!(told(line, text), "{line} {text}: {said}");
    }
    assert!(
        told(5, "register.lease-ms"),
        "the other lease is no echo: {said}"
    );
}

#[test]
fn a_folder_for_deploys_that_cannot_be_used_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let checked = |state: &Path| {
        let text = format!("[deploy]\nstate-dir = {state:?}\n");
        let config = load(&text, &[], Purpose::Check, &[]).unwrap();
        config.check_files().map_err(|errors| errors.to_string())
    };
    checked(folder.path()).unwrap();
    checked(&folder.path().join("made/when/needed")).unwrap();
    checked(Path::new("made-here")).unwrap();
    let error = checked(&file).unwrap_err();
    assert!(
        error.contains("etc/t.toml:2:13: ") && error.contains("is not a folder"),
        "{error}"
    );
    checked(&file.join("below")).unwrap_err();
    assert!(
        !folder.path().join("made").exists(),
        "nothing is made by looking"
    );
}

#[test]
fn what_is_hardly_meant_is_told_by_a_check_too() {
    let warned = |text: &str| {
        load(text, &[], Purpose::Check, &[])
            .unwrap()
            .warnings()
            .join("\n")
    };
    let short = warned("[register]\ngrace-ms = 1000\n");
    assert!(short.contains("`register.grace-ms` is 1000"), "{short}");
    let api = warned("[api]\nlisten = \"127.0.0.1:0\"\n");
    assert!(api.contains("there is no [[api-token]]"), "{api}");
    assert_eq!(warned(""), "");
}

#[test]
fn files_that_are_not_there_are_told_at_the_key_that_names_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.toml");
    let text = "[[gateway.listener]]\nstatic = \"web\"\n[[plugin]]\nfile = \"chat.wasm\"\n\
                [[command]]\nfile = \"c.wasm\"\n";
    std::fs::write(&file, text).unwrap();
    let overrides = overrides(Purpose::Check, &[]);
    let config = Config::load(Some(&file), std::iter::empty(), &overrides).unwrap();
    let errors = config.check_files().expect_err("none is there").to_string();
    let (file, folder) = (file.display(), folder.path().display());
    assert_eq!(
        errors,
        format!(
            "{file}:2:10: `{folder}/web` is not a folder that can be read\n\
             {file}:4:8: the plugin `{folder}/chat.wasm` cannot be read: No such file or directory \
             (os error 2)\n\
             {file}:6:8: the command component `{folder}/c.wasm` cannot be read: No such file or \
             directory (os error 2)"
        )
    );
}

#[test]
fn a_plugin_without_a_file_needs_somebody_who_can_deploy_one() {
    let load = |purpose, more: &str| {
        let text =
            format!("secret = \"0123456789abcdef\"\n[[gateway.listener]]\n[[plugin]]\n{more}");
        let overrides = overrides(purpose, &[]);
        Config::of_text("t", &text, std::iter::empty(), &overrides, Vec::new())
            .map_err(|errors| errors.to_string())
    };
    for purpose in [Purpose::Worker, Purpose::Check] {
        let config = load(purpose, "").unwrap();
        config.check_files().unwrap();
    }
    assert!(load(Purpose::Worker, "").unwrap().warnings()[0].contains("deploy.state-dir"));
    let error = load(Purpose::Serve, "").unwrap_err();
    assert!(error.contains("nobody can deploy one"), "{error}");
    let token = "[api]\nlisten = \"127.0.0.1:0\"\n[[api-token]]\ntoken = \"0123456789abcdef\"\n";
    assert!(load(Purpose::Serve, token).is_err(), "it may not deploy");
    let deployer = format!("{token}deploy = true\n");
    load(Purpose::Serve, &deployer).unwrap();
    load(Purpose::Serve, &format!("{deployer}tenant = \"other\"\n")).unwrap_err();
    load(Purpose::Serve, "[register]\nlisten = \"127.0.0.1:0\"\n").unwrap();
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_the_flag() {
    let overrides = overrides(Purpose::Check, &[]);
    let error = Config::load(Some(Path::new("no/t.toml")), std::iter::empty(), &overrides)
        .expect_err("it is not there");
    assert_eq!(
        error.to_string(),
        "--config: `no/t.toml` cannot be read: No such file or directory (os error 2)"
    );
}
