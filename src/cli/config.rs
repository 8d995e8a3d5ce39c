//! `quire config`: shows the configuration that is in force, and checks a file.

use std::io::{self, Read, Write};

use clap::Subcommand;
use serde::Serialize;

use super::args::OutputArgs;
use super::configuration;
use super::context::Context;
use super::error::{CommandError, FAILED, diagnostic_line};
use super::output::{Cell, Output};
use quire_config::{Config, ConfigError, LoadedConfig, MAX_CONFIG_BYTES, SettingInForce};
use quire_pipeline::{Diagnostic, Language};

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Show the settings that are in force, and where each comes from
    ///
    /// Of a secret it shows where its value is, and never the value.
    Show {
        /// Only settings that are not the default
        #[arg(long)]
        set: bool,
        #[command(flatten)]
        format: OutputArgs,
    },
    /// Check the configuration file on standard input
    #[command(after_help = "Example:\n  ssh git@host config check < config.fnl")]
    Check {
        /// The file is Lua, and not Fennel
        #[arg(long)]
        lua: bool,
        #[command(flatten)]
        format: OutputArgs,
    },
}

impl ConfigCommand {
    pub(super) fn json(&self) -> bool {
        let (Self::Show { format, .. } | Self::Check { format, .. }) = self;
        format.json
    }
}

#[derive(Serialize)]
struct CheckedConfig {
    ok: bool,
    errors: Vec<String>,
    warnings: Vec<String>,
}

pub(super) fn config(
    context: &Context<'_>,
    command: &ConfigCommand,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    match command {
        ConfigCommand::Show { set, .. } => {
            let mut settings = configuration::settings_in_force(context.paths)?;
            if *set {
                settings.settings.retain(|found| found.origin != "default");
            }
            if out.json {
                return out.json(&settings);
            }
            let file = settings.file.map(|file| file.display().to_string());
            print_settings(&settings.settings, file.as_deref().unwrap_or("file"), out)
        }
        ConfigCommand::Check { lua, .. } => {
            let language = match lua {
                true => Language::Lua,
                false => Language::Fennel,
            };
            print_checked(Config::check(read_file()?, language), out)
        }
    }
}

fn read_file() -> Result<String, CommandError> {
    let mut text = String::new();
    let read = io::stdin()
        .lock()
        .take(MAX_CONFIG_BYTES + 1)
        .read_to_string(&mut text);
    match read {
        Ok(_) if text.len() as u64 > MAX_CONFIG_BYTES => {
            Err(CommandError::usage("the file is larger than 1 MiB"))
        }
        Ok(_) => Ok(text),
        Err(error) => Err(CommandError::failed(format!(
            "the file cannot be read: {error}"
        ))),
    }
}

fn print_settings(
    settings: &[SettingInForce],
    file: &str,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let row = |setting: &SettingInForce| -> [Cell; 3] {
        [
            setting.setting.as_str().into(),
            match setting.value.as_str() {
                "" => "-".into(),
                value => value.into(),
            },
            match (&setting.variable, setting.origin.as_str()) {
                (Some(variable), _) => variable.as_str().into(),
                (None, "file") => file.into(),
                (None, origin) => origin.into(),
            },
        ]
    };
    let rows: Vec<_> = settings.iter().map(row).collect();
    out.table(["SETTING", "VALUE", "FROM"], &rows)
}

/// The problems go to standard error in the words that they have at a start.
fn print_checked(
    checked: Result<LoadedConfig, ConfigError>,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let (errors, warnings) = match &checked {
        Ok(loaded) => (&[][..], loaded.warnings.as_slice()),
        Err(error) => (error.diagnostics(), &[][..]),
    };
    if out.json {
        let lines =
            |list: &[Diagnostic]| -> Vec<String> { list.iter().map(diagnostic_line).collect() };
        out.json(&CheckedConfig {
            ok: checked.is_ok(),
            errors: lines(errors),
            warnings: lines(warnings),
        })?;
    } else {
        let mut stderr = io::stderr();
        for diagnostic in errors.iter().chain(warnings) {
            let _ = writeln!(stderr, "quire: {}", diagnostic_line(diagnostic));
        }
    }
    match checked {
        Err(_) => Err(CommandError::exit_only(FAILED)),
        Ok(_) if out.json => Ok(()),
        Ok(loaded) => out.line(match loaded.warnings.len() {
            0 => "the configuration is valid",
            _ => "the configuration is valid, but for keys that have no effect",
        }),
    }
}
