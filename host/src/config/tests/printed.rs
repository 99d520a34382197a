//! What is printed can be read again: the default file, the effective one, what differs, the reference.

use super::*;

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
        .replace("#[[router]]", "[[router]]")
        .replace("#[[codec]]", "[[codec]]")
        // It would need to be the listener of a device.
        .replace("#codec = ", "# codec = ")
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
    assert_eq!(on.routers[0].file, Path::new("etc/router.wasm"));
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
