// SPDX-License-Identifier: GPL-2.0
//! Kernels of our own: the smallest configuration that there is, and what is asked for besides.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::context::{Context, Flavour};
use crate::packages::Packages;
use crate::step;

/// Unpacks the kernel's source into `dir`, and configures it with `tinyconfig` and `options`, for the
/// kernel `name`. `words` are for `make`.
///
/// # Errors
///
/// Among others, if it does not take an option as it is asked for.
pub fn source(
    cx: &Context,
    packages: &Packages,
    name: &str,
    flavour: Flavour,
    dir: &Path,
    options: &str,
    words: &[&str],
) -> Result<PathBuf> {
    let source = dir.join("source");
    packages.unpack_source(
        &format!("unpacking the source of the {name} kernel"),
        &cx.cache.log(&format!("{name}-unpack")),
        &source,
    )?;
    let refused = tiny(cx, flavour, &source, &source, options, words)?;
    ensure!(
        refused.is_empty(),
        "the {name} kernel does not take {}",
        refused.join(", ")
    );
    Ok(source)
}

/// Configures `source` with `tinyconfig` and `options`, and returns those of them that the kernel does
/// not take as they are asked for. `words` are for `make`.
///
/// The configuration is put into `dir`: `source` stays as it is, if it is another directory.
pub fn tiny(
    cx: &Context,
    flavour: Flavour,
    source: &Path,
    dir: &Path,
    options: &str,
    words: &[&str],
) -> Result<Vec<String>> {
    let config = dir.join(".config");
    let make = |goal: &str| -> Result<()> {
        let mut make = cx.kernel_make(flavour, source)?;
        // Not what the tree's own tools were built with would have them built again.
        make.arg(format!("HOSTCC={}", cx.versions.get("HOSTCC")?))
            .arg(format!("KCONFIG_CONFIG={}", config.display()))
            .args(words)
            .arg(goal);
        let log = cx.cache.log(&format!("kconfig-{}", cx.checkout_key()));
        step::run("configuring a kernel", &log, &mut make).map(drop)
    };

    make("tinyconfig")?;
    let mut text = fs::read_to_string(&config)?;
    // Of two lines for one option the last one counts.
    text.push_str(options);
    fs::write(&config, text)?;
    make("olddefconfig")?;
    Ok(refused(options, &fs::read_to_string(&config)?))
}

/// The options that are not in a configuration as they were asked for.
fn refused(options: &str, config: &str) -> Vec<String> {
    options
        .lines()
        .filter(|line| match line.strip_prefix("# ") {
            Some(rest) => rest.ends_with(" is not set"),
            None => line.starts_with("CONFIG_"),
        })
        // What depends on something that is not there is not mentioned.
        .filter(|line| match line.strip_suffix(" is not set") {
            Some(name) => {
                let set = format!("{}=", name.trim_start_matches("# "));
                config.lines().any(|line| line.starts_with(&set))
            }
            None => !config.lines().any(|had| had == *line),
        })
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_taken_is_named() {
        let options =
            "# A comment.\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\n# CONFIG_D is not set\n";
        let config = "CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=m\n";
        assert_eq!(
            refused(options, config),
            ["CONFIG_B=m", "# CONFIG_C is not set"]
        );
        assert!(refused(options, "CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\n").is_empty());
    }
}
