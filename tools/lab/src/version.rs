// SPDX-License-Identifier: GPL-2.0
//! The version of the project, `VERSION`, and who repeats it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The file that says it.
const FILE: &str = "VERSION";

/// Those who repeat it: the file, and what is around it there.
const REPEATED: [(&str, &str, &str); 3] = [
    ("dkms.conf", "\nPACKAGE_VERSION=\"", "\"\n"),
    ("debian/changelog", "vf-vdpa (", ") "),
    // What `vf-vdpa --version` prints.
    ("tools/vf-vdpa/Cargo.toml", "\nversion = \"", "\"\n"),
];

/// The version of the checkout `top`.
pub fn ours(top: &Path) -> Result<String> {
    Ok(read(top, FILE)?.trim().to_owned())
}

/// What does not agree with it.
pub fn disagreements(top: &Path) -> Result<Vec<String>> {
    let ours = ours(top)?;
    let mut wrong = Vec::new();
    for (file, before, after) in REPEATED {
        let text = read(top, file)?;
        match between(&text, before, after) {
            Some(found) if found == ours => {}
            Some(found) => wrong.push(format!("{file} says {found}, {FILE} says {ours}")),
            None => wrong.push(format!("{file} says no version")),
        }
    }
    Ok(wrong)
}

fn read(top: &Path, name: &str) -> Result<String> {
    fs::read_to_string(top.join(name)).with_context(|| format!("reading {name}"))
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_say_the_same_version() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        assert_eq!(disagreements(&top).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_differs_is_told() {
        let top = std::env::temp_dir().join(format!("version-{}", std::process::id()));
        for (file, before, after) in REPEATED {
            let path = top.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{before}1.2.3{after}")).unwrap();
        }
        fs::write(top.join(FILE), "1.2.3\n").unwrap();
        assert_eq!(disagreements(&top).unwrap(), Vec::<String>::new());
        fs::write(top.join(FILE), "1.2.4\n").unwrap();
        assert_eq!(disagreements(&top).unwrap().len(), REPEATED.len());
        fs::write(top.join(REPEATED[0].0), "").unwrap();
        let wrong = disagreements(&top).unwrap();
        fs::remove_dir_all(&top).unwrap();
        assert!(wrong[0].ends_with("says no version"), "{wrong:?}");
    }
}
