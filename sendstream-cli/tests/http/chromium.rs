//! A browser that follows a link of a listing, and what a person sees of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sendstream::Identity;

use crate::{
    browser::{self, chromium},
    support::{Certified, Web},
};

/// Shows a page of the server. Returns what Chromium printed.
fn browse(chromium: &str, web: &Web, certified: &Certified, args: &[&str], path: &str) -> String {
    let identity = Identity::from_files(certified.path("certificate"), certified.path("key")).unwrap();
    let key = BASE64_STANDARD.encode(identity.public_key_sha256());
    let port = web.address.port();
    let rules = [
        "--host-resolver-rules=MAP localhost 127.0.0.1",
        &format!("--origin-to-force-quic-on=localhost:{port}"),
        &format!("--ignore-certificate-errors-spki-list={key}"),
    ];
    browser::browse(chromium, &[&rules, args].concat(), &format!("https://localhost:{port}/{path}"))
}

fn start(certified: &Certified) -> Web {
    let web = Web::start(&["--cert", &certified.path("certificate"), "--key", &certified.path("key")]);
    for (name, size) in [
        ("Photos/2026/harbour at night.jpg", 2_400_000),
        ("Photos/2026/<b>&quot;strange&quot;.png", 310_000),
        ("Photos/2026/naïve – 日本語.txt", 1_234),
        ("Photos/2026/report, final (2).pdf", 48_213),
        (
            "Photos/2026/a rather long name that says everything about what is inside of the file and then some.tar.zst",
            73_400_320,
        ),
        ("Photos/2026/100%.txt", 0),
        ("Photos/2026/raw/x", 1),
        ("Photos/2026/edited/x", 1),
    ] {
        web.file(name, &[]);
        fs::File::options().write(true).open(web.path(name)).unwrap().set_len(size).unwrap();
    }
    web
}

#[test]
fn chromium_follows_a_link_of_a_listing() {
    let Some(chromium) = chromium() else { return };
    let certified = Certified::new();
    let web = start(&certified);
    web.file(
        "Photos/2026/raw/the page?.html",
        br#"<body><script>
            const [entry] = performance.getEntriesByType("navigation");
            document.body.textContent = `${location.pathname} came by ${entry.nextHopProtocol}`;
        </script>"#,
    );
    // It goes where the links of the listings lead, and clicks the last of them.
    web.file(
        "walk.html",
        br#"<body><iframe name=frame></iframe><script>
            (async () => {
                let at = new URL("/", location.href).href, link;
                for (const text of ["Photos/", "2026/", "raw/", "the page?.html"]) {
                    const listing = new DOMParser().parseFromString(await (await fetch(at)).text(), "text/html");
                    link = [...listing.querySelectorAll("a")].find(link => link.textContent == text);
                    at = link.href = new URL(link.getAttribute("href"), at).href;
                }
                const frame = document.querySelector("iframe");
                const loaded = new Promise(resolve => frame.onload = resolve);
                link.target = "frame";
                document.body.append(link);
                link.click();
                await loaded;
                document.body.textContent = frame.contentDocument.body.textContent;
            })().catch(error => document.body.textContent = error);
        </script>"#,
    );
    let dom = browse(chromium, &web, &certified, &["--dump-dom", "--virtual-time-budget=20000"], "walk.html");
    assert!(dom.contains("/Photos/2026/raw/the%20page%3F.html came by h3"), "{dom}");
    let mut paths = vec![
        "/walk.html",
        "/",
        "/Photos/",
        "/Photos/2026/",
        "/Photos/2026/raw/",
        "/Photos/2026/raw/the%20page%3F.html",
    ];
    while !paths.is_empty() {
        let line = web.logged();
        assert_eq!(line["protocol"], "h3");
        // It also asks for an icon, at a time of its own.
        paths.retain(|path| line["path"] != *path);
    }
}

#[test]
fn chromium_shows_a_listing_in_light_and_dark() {
    let Some(chromium) = chromium() else { return };
    let certified = Certified::new();
    let web = start(&certified);
    let shots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("listing");
    fs::create_dir_all(&shots).unwrap();
    // Of `preferredColorScheme`, 0 is dark and 1 is light.
    for (name, scheme, size) in [("light", 1, "960,640"), ("dark", 0, "960,640"), ("narrow", 1, "500,760")] {
        let shot: PathBuf = shots.join(format!("{name}.png"));
        let _ = fs::remove_file(&shot);
        let args = [
            format!("--blink-settings=preferredColorScheme={scheme}"),
            format!("--window-size={size}"),
            format!("--screenshot={}", shot.display()),
        ];
        let args: Vec<_> = args.iter().map(String::as_str).chain(["--hide-scrollbars"]).collect();
        browse(chromium, &web, &certified, &args, "Photos/2026/");
        let png = fs::read(&shot).unwrap();
        assert!(png.starts_with(b"\x89PNG") && png.len() > 10_000, "{name}: {} bytes", png.len());
    }
    let bytes = |name: &str| fs::read(shots.join(format!("{name}.png"))).unwrap();
    assert_ne!(bytes("light"), bytes("dark"));
}
