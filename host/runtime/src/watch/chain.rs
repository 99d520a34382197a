//! Where a change can lead a path to another file: the folder of the file itself, and of every link
//! on the way to it, in the path's parents too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Links followed at most; the kernel follows as many.
const LINKS_MAX: usize = 40;

/// The folders that matter to one path, and what matters in them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// With which folder it is now, in case it is replaced by another of the same name.
    pub(super) folders: BTreeMap<PathBuf, Option<FolderId>>,
    /// Names of links, and of the file, in any of the folders.
    pub(super) names: BTreeSet<OsString>,
}

/// Device and inode.
pub(super) type FolderId = (u64, u64);

impl Chain {
    /// Follows the path as far as it leads. Blocks.
    pub(super) fn of(path: &Path) -> Self {
        let mut chain = Self::default();
        let Ok(path) = std::path::absolute(path) else {
            return chain;
        };
        let mut ahead = parts(&path);
        let mut folder = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                folder.pop();
                continue;
            }
            let place = folder.join(&name);
            let metadata = fs::symlink_metadata(&place);
            if metadata.as_ref().is_ok_and(fs::Metadata::is_symlink) && links < LINKS_MAX {
                chain.add(&folder, name);
                links += 1;
                let Ok(target) = fs::read_link(&place) else {
                    return chain;
                };
                if target.is_absolute() {
                    folder = PathBuf::from("/");
                }
                let mut onward = parts(&target);
                onward.append(&mut ahead);
                ahead = onward;
            } else if ahead.is_empty() || metadata.is_err() {
                // The file, or the first part of the way that is missing.
                chain.add(&folder, name);
                return chain;
            } else {
                folder = place;
            }
        }
        chain
    }

    fn add(&mut self, folder: &Path, name: OsString) {
        let id = fs::metadata(folder).map(|it| (it.dev(), it.ino())).ok();
        self.folders.insert(folder.to_owned(), id);
        self.names.insert(name);
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_link_on_the_way_is_found_with_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        // As kubernetes mounts a volume, below a folder that is a link itself.
        fs::create_dir_all(root.join("real/volume/..first")).unwrap();
        fs::write(root.join("real/volume/..first/plugin.wasm"), b"").unwrap();
        symlink("..first", root.join("real/volume/..data")).unwrap();
        symlink("..data/plugin.wasm", root.join("real/volume/plugin.wasm")).unwrap();
        symlink(root.join("real"), root.join("current")).unwrap();
        let chain = Chain::of(&root.join("current/volume/plugin.wasm"));
        let folders: Vec<&PathBuf> = chain.folders.keys().collect();
        let volume = root.join("real/volume");
        assert_eq!(folders, [&root, &volume, &volume.join("..first")]);
        let names: Vec<&OsString> = chain.names.iter().collect();
        assert_eq!(names, ["..data", "current", "plugin.wasm"]);
    }

    #[test]
    fn a_way_that_ends_early_or_turns_in_circles_is_followed_as_far_as_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let chain = Chain::of(&root.join("missing/plugin.wasm"));
        assert_eq!(chain.folders.keys().collect::<Vec<_>>(), [&root]);
        assert!(chain.names.contains(std::ffi::OsStr::new("missing")));
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        let circle = Chain::of(&root.join("a"));
        assert_eq!(circle.names.len(), 2);
    }
}
