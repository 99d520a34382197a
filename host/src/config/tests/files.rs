//! Mistakes that show only with a look at files and folders, and all of them at once.

use super::*;

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
fn mistakes_in_keys_between_them_and_in_files_are_told_at_once_without_echoes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.toml");
    std::fs::write(folder.path().join("taken"), "").unwrap();
    // `lease-ms` and the mistyped `file` would echo if their defaults were compared with the rest.
    let text = "[deploy]\nstate-dir = \"taken/state\"\n[link]\nlease-ms = \"10s\"\n\
                heartbeat-ms = 60000\nreconnect-ms-min = 500\nreconnect-ms-max = 400\n\
                [[plugin]]\nflie = \"chat.wasm\"\n[[plugin]]\nfile = \"other.wasm\"\n\
                tenant = \"other\"\n[[command]]\n[[api-token]]\n";
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
        (13, "needs its `file`"),
        (14, "needs its `token`"),
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
