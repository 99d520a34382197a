//! Each kind of mistake once, with the exact text.

use super::*;

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
fn codecs_that_are_not_whole_or_do_not_fit_are_refused() {
    for (text, message) in [
        (
            "[[codec]]\nname = \"gt06\"\ncpu-ms = 6000\n",
            "etc/t.toml:1:1: a [[codec]] needs its `file`, like file = \"tracker.wasm\"\n\
             etc/t.toml:3:10: `wall-ms` in [[codec]] is 5000, less than its `cpu-ms`, 6000",
        ),
        (
            "[[codec]]\nfile = \"a.wasm\"\n",
            "etc/t.toml:1:1: a [[codec]] needs its `name`, like name = \"tracker\"",
        ),
        (
            "[[codec]]\nname = \"a\"\nfile = \"a.wasm\"\n[[codec]]\nname = \"a\"\nfile = \
             \"b.wasm\"\n",
            "etc/t.toml:5:8: `name` in [[codec]]: two codecs have the name `a`",
        ),
        (
            "[[codec]]\nname = \"gt06\"\nfile = \"a.wasm\"\n[[gateway.listener]]\nlisten = \
             \"tcp://127.0.0.1:1\"\ncodec = \"gt60\"\n",
            "etc/t.toml:6:9: `codec` in [[gateway.listener]]: no [[codec]] has the name `gt60`, did \
             you mean `gt06`?",
        ),
        (
            "[[gateway.listener]]\nlisten = \"tcp://127.0.0.1:1\"\ncodec = \"gt06\"\n",
            "etc/t.toml:3:9: `codec` in [[gateway.listener]]: no [[codec]] has the name `gt06`, give \
             a [[codec]] with name = \"gt06\" and its file",
        ),
        (
            "[[codec]]\nname = \"gt06\"\nfile = \"a.wasm\"\n[[gateway.listener]]\nlisten = \
             \"ws://127.0.0.1:1\"\ncodec = \"gt06\"\n",
            "etc/t.toml:6:9: `codec` in [[gateway.listener]]: it works with tcp:// only, this \
             listener is ws://127.0.0.1:1",
        ),
    ] {
        assert_eq!(refused(text), message);
    }
}
