//! Where Cargo unpacked the crates that bring the C sources of MsQuic and AWS-LC.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A crate whose C sources are built, as named in `Cargo.toml`.
pub(crate) struct Crate {
    /// Its name in the registry.
    pub(crate) name: &'static str,
    /// The version that is taken where nothing is locked.
    pub(crate) version: Cow<'static, str>,
    /// What every version begins with that may be taken.
    pub(crate) series: &'static str,
}

pub(crate) const MSQUIC: Crate =
    Crate { name: "seera-msquic", version: Cow::Borrowed("2.6.0-beta3"), series: "2.6.0-beta3" };

/// What the build needs of MsQuic's sources: a file, or a folder with all that is in it.
pub(crate) const PARTS: [&str; 9] = [
    "CMakeLists.txt",
    "cmake",
    "submodules/CMakeLists.txt",
    "src/bin",
    "src/core",
    "src/generated/CMakeLists.txt",
    "src/inc",
    "src/manifest",
    "src/platform",
];

/// A crate as it was found.
pub(crate) struct Unpacked {
    /// Its root folder.
    pub(crate) root: PathBuf,
    /// Its whole version.
    pub(crate) version: String,
}

/// Finds the sources of `wanted`, as seen from this crate, whose root is `manifest_dir`.
///
/// When this crate came from a registry or a vendor folder, the other one lies next to it. In a
/// workspace of its own Cargo knows, and the strictest question does: all that the outer Cargo
/// resolved is downloaded and locked. As a git dependency this crate has a workspace around it that
/// is not the one being built, and of which nothing need be downloaded: then it is found in Cargo's
/// home.
///
/// A crate whose Rust code is not compiled is no dependency of what is built (`Cargo.toml`), so nobody
/// may have downloaded it. In the end Cargo is asked to do that.
pub(crate) fn find(wanted: &Crate, manifest_dir: &Path) -> Result<Unpacked, String> {
    let wanted = &wanted.as_locked(manifest_dir);
    let Crate { name, version, .. } = wanted;
    let beside = manifest_dir.parent();
    beside
        .and_then(|parent| wanted.look_in(parent))
        .or_else(|| wanted.ask_cargo(manifest_dir, &as_resolved()))
        .or_else(|| wanted.look_in_cargo_home())
        .or_else(|| wanted.download())
        .or_else(|| wanted.another_version_in(beside?))
        .ok_or_else(|| {
            format!(
                "Cargo has no sources of {name} {version} and cannot download them; run cargo fetch, without --target"
            )
        })
}

/// Has Cargo answer from what the outer one has resolved and downloaded: not what other systems need.
fn as_resolved() -> Vec<String> {
    let mut options = vec!["--offline".into(), "--locked".into()];
    if let Ok(target) = env::var("TARGET") {
        options.extend(["--filter-platform".into(), target]);
    }
    options
}

/// Every file of the [`PARTS`] below `root`, relative to it.
pub(crate) fn files(root: &Path) -> Result<BTreeSet<PathBuf>, String> {
    let mut files = BTreeSet::new();
    for part in PARTS {
        list_files(root, Path::new(part), &mut files)?;
    }
    Ok(files)
}

/// Adds every file at or below `root`/`part` to `files`, relative to `root`.
fn list_files(root: &Path, part: &Path, files: &mut BTreeSet<PathBuf>) -> Result<(), String> {
    let path = root.join(part);
    if !path.is_dir() {
        files.insert(part.to_path_buf());
        return Ok(());
    }
    let at = |error| format!("{}: {error}", path.display());
    for entry in fs::read_dir(&path).map_err(at)? {
        list_files(root, &part.join(entry.map_err(at)?.file_name()), files)?;
    }
    Ok(())
}

impl Crate {
    /// The version that `Cargo.lock` has, of what is being built or else of this workspace.
    fn as_locked(&self, manifest_dir: &Path) -> Self {
        let out_dir = env::var_os("OUT_DIR").map(PathBuf::from);
        let folders = out_dir.iter().flat_map(|folder| folder.ancestors()).chain(manifest_dir.ancestors());
        let locked = folders.filter_map(|folder| fs::read_to_string(folder.join("Cargo.lock")).ok());
        let version = locked.filter_map(|lock| self.version_in(&lock)).next();
        Self { name: self.name, version: version.map_or_else(|| self.version.clone(), Cow::Owned), series: self.series }
    }

    fn version_in(&self, lock: &str) -> Option<String> {
        let name = format!("name = \"{}\"", self.name);
        let mut lines = lock.lines();
        while lines.any(|line| line == name) {
            let version = lines.next()?.strip_prefix("version = \"")?.strip_suffix('"')?;
            if version.starts_with(self.series) {
                return Some(version.to_owned());
            }
        }
        None
    }

    /// What is in `folder`, if it is this crate.
    fn read(&self, folder: &Path) -> Option<Unpacked> {
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).ok()?;
        let value = |key: &str| {
            let mut lines = manifest.lines();
            lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'))
        };
        let version = value("version")?;
        (value("name")? == self.name && version.starts_with(self.series))
            .then(|| Unpacked { root: folder.to_path_buf(), version: version.to_owned() })
    }

    /// The folder of this crate in `parent`: a registry's has the version in its name, that of a vendor
    /// folder has none, as it is the only one.
    fn look_in(&self, parent: &Path) -> Option<Unpacked> {
        let names = [format!("{}-{}", self.name, self.version), self.name.to_owned()];
        names.iter().find_map(|name| self.read(&parent.join(name)))
    }

    fn another_version_in(&self, parent: &Path) -> Option<Unpacked> {
        let folders = fs::read_dir(parent).ok()?.flatten().map(|entry| entry.path());
        let named =
            |folder: &PathBuf| folder.file_name()?.to_str()?.strip_prefix(self.name)?.strip_prefix('-').map(drop);
        folders.filter(|folder| named(folder).is_some()).find_map(|folder| self.read(&folder))
    }

    fn look_in_cargo_home(&self) -> Option<Unpacked> {
        let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")))?;
        let registries = fs::read_dir(home.join("registry").join("src")).ok()?;
        registries.flatten().find_map(|registry| self.look_in(&registry.path()))
    }

    /// Has Cargo download it, as the one dependency of a package that nobody builds. That lies where the
    /// outer Cargo builds, so that it is told of the same registries.
    fn download(&self) -> Option<Unpacked> {
        let folder = env::var_os("OUT_DIR").map_or_else(env::temp_dir, PathBuf::from).join("download");
        let manifest = format!(
            "[package]\nname = \"download\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n[workspace]\n\
             [dependencies]\n{} = {{ version = \"={}\", default-features = false }}\n",
            self.name, self.version
        );
        fs::create_dir_all(&folder).ok()?;
        fs::write(folder.join("lib.rs"), "").ok()?;
        fs::write(folder.join("Cargo.toml"), manifest).ok()?;
        let found = self.ask_cargo(&folder, &[]);
        let _ = fs::remove_dir_all(&folder);
        found
    }

    /// Where Cargo has it, if it is in what the package in `folder` needs.
    fn ask_cargo(&self, folder: &Path, options: &[String]) -> Option<Unpacked> {
        let mut command = Command::new(env::var_os("CARGO")?);
        command.args(["metadata", "--format-version", "1"]).args(options);
        command.arg("--manifest-path").arg(folder.join("Cargo.toml")).current_dir(folder).stderr(Stdio::null());
        let metadata: serde_json::Value = serde_json::from_slice(&command.output().ok()?.stdout).ok()?;
        let mut packages = metadata["packages"].as_array()?.iter().filter(|package| package["name"] == self.name);
        packages.find_map(|package| self.read(Path::new(package["manifest_path"].as_str()?).parent()?))
    }
}
