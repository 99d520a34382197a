//! The static folder gives what lies in it and was meant to be seen, and nothing else.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use tidegate_tests::{Cluster, Outcome, Transport, http};

const SECRET: &str = "nobody may see this";

/// A folder `web` with all that may go wrong, and beside it what it must not lead to.
fn folders() -> Result<tempfile::TempDir> {
    let top = tempfile::tempdir()?;
    let (web, outside) = (top.path().join("web"), top.path().join("outside"));
    for folder in ["web/.git", "web/sub", "outside"] {
        fs::create_dir_all(top.path().join(folder))?;
    }
    fs::write(web.join("index.html"), "<h1>there</h1>")?;
    fs::write(web.join("sub/page.html"), "page")?;
    fs::write(outside.join("secret.txt"), SECRET)?;
    fs::write(outside.join("index.html"), SECRET)?;
    for hidden in [".env", ".git/config", "sub/.htpasswd"] {
        fs::write(web.join(hidden), SECRET)?;
    }
    symlink("sub/page.html", web.join("inside.html"))?;
    symlink("sub", web.join("inner"))?;
    symlink("../outside/secret.txt", web.join("file.txt"))?;
    symlink(outside.join("secret.txt"), web.join("absolute.txt"))?;
    symlink("../outside", web.join("folder"))?;
    symlink(&outside, web.join("sub/folder"))?;
    symlink("folder", web.join("chain"))?;
    Ok(top)
}

async fn serving(web: &Path) -> Result<Cluster> {
    let flags = ["--static", &web.to_string_lossy()];
    Cluster::serve().gateway_flags(&flags).start().await
}

#[tokio::test]
async fn hidden_files_and_links_that_lead_out_are_not_there() -> Outcome {
    let top = folders()?;
    let cluster = serving(&top.path().join("web")).await?;
    let address = cluster.gateway(0)?.listener(Transport::Ws)?;
    for (target, body) in [
        ("/", "<h1>there</h1>"),
        ("/sub/page.html", "page"),
        ("/inside.html", "page"),
        ("/inner/page.html", "page"),
    ] {
        let answer = http::get(address, target).await?;
        ensure!(
            answer.status == 200 && answer.body == body,
            "{target}: {answer:?}"
        );
        let head = answer.head.to_lowercase();
        ensure!(
            head.contains("x-content-type-options: nosniff"),
            "{target}: {answer:?}"
        );
    }
    for target in [
        "/.env",
        "/%2eenv",
        "/.git/config",
        "/.git/",
        "/sub/.htpasswd",
        "/sub/%2Ehtpasswd",
        "/file.txt",
        "/absolute.txt",
        "/folder",
        "/folder/",
        "/folder/secret.txt",
        "/sub/folder/secret.txt",
        "/chain/secret.txt",
        "/sub/../.env",
        "/sub/%2e%2e/%2e%2e/outside/secret.txt",
        "/sub%2f..%2f..%2foutside%2fsecret.txt",
    ] {
        for method in ["GET", "HEAD"] {
            let request =
                format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let answer = http::exchange(address, request.as_bytes()).await?;
            ensure!(
                (400..500).contains(&answer.status) && !answer.body.contains(SECRET),
                "{method} {target}: {answer:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_link_that_turns_while_it_is_asked_for_leads_out_never() -> Outcome {
    let top = folders()?;
    let web = top.path().join("web");
    fs::write(web.join("sub/secret.txt"), "harmless")?;
    let cluster = serving(&web).await?;
    let address = cluster.gateway(0)?.listener(Transport::Ws)?;
    let over = Arc::new(AtomicBool::new(false));
    let turning = std::thread::spawn({
        let (over, web) = (over.clone(), web.clone());
        move || -> Result<()> {
            let new = web.join("new");
            while !over.load(Ordering::Relaxed) {
                for to in ["sub", "../outside"] {
                    symlink(to, &new)?;
                    fs::rename(&new, web.join("turning"))?;
                }
            }
            Ok(())
        }
    });
    let (mut given, mut refused) = (0, 0);
    for _ in 0..500 {
        let answer = http::get(address, "/turning/secret.txt").await?;
        ensure!(!answer.body.contains(SECRET), "{answer:?}");
        match answer.status {
            200 => given += 1,
            _ => refused += 1,
        }
    }
    over.store(true, Ordering::Relaxed);
    turning
        .join()
        .map_err(|_| anyhow::anyhow!("the turning thread panicked"))??;
    ensure!(
        given > 0 && refused > 0,
        "{given} given, {refused} refused: nothing turned"
    );
    Ok(())
}
