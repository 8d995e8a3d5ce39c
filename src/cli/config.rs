//! `quire config`: shows the configuration that is in force, changes single settings and checks a file. `quire reload`.

use std::io::{self, Read, Write};
use std::path::Path;

use clap::Subcommand;
use serde::Serialize;

use super::args::OutputArgs;
use super::configuration;
use super::context::Context;
use super::error::{CommandError, FAILED, diagnostic_line};
use super::output::{Cell, Output};
use quire_config::{
    Config, ConfigError, LoadedConfig, MAX_CONFIG_BYTES, NewSetting, SettingInForce,
};
use quire_pipeline::{Diagnostic, Language};
use quire_server::control::client::ControlError;
use quire_server::control::protocol::{ReloadReport, ReloadedSetting};
use quire_server::forge::configuration::{self as forge_configuration, ChangedSetting};

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
    /// Set a setting in the configuration file, and load it
    ///
    /// Comments and everything else in the file stay as they are. A file that is written in a way that does not allow that is not
    /// changed, and the line to write is printed.
    #[command(
        after_help = "Examples:\n  config set ci.concurrent-runs 2\n  config set keep.logs 10g\n  config set http.trusted-proxies 10.0.0.0/8,172.16.0.0/12"
    )]
    Set {
        /// Section and name, as `config show` lists them
        setting: String,
        /// Its value, as in a variable of the environment
        #[arg(allow_hyphen_values = true)]
        value: String,
        #[command(flatten)]
        format: OutputArgs,
    },
    /// Remove a setting from the configuration file, so that its default is in force
    Unset {
        /// Section and name, as `config show` lists them
        setting: String,
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
    pub(super) fn format(&self) -> OutputArgs {
        let (Self::Show { format, .. }
        | Self::Set { format, .. }
        | Self::Unset { format, .. }
        | Self::Check { format, .. }) = self;
        *format
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
        ConfigCommand::Set { setting, value, .. } => {
            let changed =
                forge_configuration::set(&context.forge(), setting, NewSetting::Value(value));
            print_changed(context, &changed?, out)
        }
        ConfigCommand::Unset { setting, .. } => {
            let changed = forge_configuration::set(&context.forge(), setting, NewSetting::Default);
            print_changed(context, &changed?, out)
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

/// A setting that was changed, in JSON.
#[derive(Serialize)]
struct ChangedSettingJson<'a> {
    setting: &'a str,
    file: &'a Path,
    before: Option<&'a str>,
    after: Option<&'a str>,
    in_force: bool,
    needs_restart: bool,
    /// The variable of the environment that overrides it.
    overridden_by: Option<&'a str>,
}

fn print_changed(
    context: &Context<'_>,
    changed: &ChangedSetting,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let in_force = configuration::settings_in_force(context.paths).ok();
    let found = in_force.as_ref().and_then(|all| {
        let mut all = all.settings.iter();
        all.find(|one| one.setting == changed.setting)
    });
    let overridden_by = found.and_then(|one| one.variable.as_deref());
    let is_loaded = changed
        .reloaded
        .as_ref()
        .is_ok_and(|report| report.is_loaded);
    let is_pending = found.is_some_and(|one| one.pending.is_some());
    if out.json {
        return out.json(&ChangedSettingJson {
            setting: &changed.setting,
            file: &changed.file,
            before: changed.before.as_deref(),
            after: changed.after.as_deref(),
            in_force: is_loaded && !is_pending && overridden_by.is_none(),
            needs_restart: changed.needs_restart,
            overridden_by,
        });
    }
    let (setting, file) = (&changed.setting, changed.file.display());
    out.line(&match (&changed.before, &changed.after) {
        (before, after) if before == after => format!("{setting} is set to that already in {file}"),
        (Some(before), Some(after)) => {
            format!("set {setting} to {after} in {file}; it was {before}")
        }
        (None, Some(after)) => format!("set {setting} to {after} in {file}"),
        (_, None) => format!("removed {setting} from {file}; its default takes effect"),
    })?;
    match (&changed.reloaded, overridden_by) {
        (Ok(report), _) if !report.is_loaded => out.line(&format!(
            "the configuration does not load, and the previous one stays in force: {}",
            report.problems.join("; ")
        )),
        (Ok(_), Some(variable)) => out.line(&format!(
            "it has no effect as long as the variable {variable} of the environment is set"
        )),
        (Ok(_), None) if is_pending => out.line("it takes effect when quire is restarted"),
        (Ok(_), None) => out.line("it is in force"),
        (Err(ControlError::Unreachable(_)), _) => {
            out.line("the server is not running; it takes effect when it starts")
        }
        (Err(error), _) => out.line(&format!(
            "the server did not load it yet, because {error}; `reload` tries again"
        )),
    }
}

/// `quire reload`.
pub(super) fn reload(context: &Context<'_>, out: &mut Output<'_>) -> Result<(), CommandError> {
    let report = forge_configuration::reload(&context.forge())?;
    if out.json {
        return out.json(&report);
    }
    print_reload(&report, out)
}

fn print_reload(report: &ReloadReport, out: &mut Output<'_>) -> Result<(), CommandError> {
    for problem in &report.problems {
        out.line(&Cell::from(problem.as_str()).plain())?;
    }
    if report.changed.is_empty() {
        return out.line("the configuration is loaded; no setting has changed");
    }
    let shown = |value: &str| match value {
        "" => "-".to_owned(),
        value => value.to_owned(),
    };
    let row = |one: &ReloadedSetting| -> [Cell; 4] {
        [
            one.setting.as_str().into(),
            shown(&one.before).into(),
            shown(&one.after).into(),
            match one.needs_restart {
                true => "after a restart".into(),
                false => "now".into(),
            },
        ]
    };
    let rows: Vec<_> = report.changed.iter().map(row).collect();
    out.table(["SETTING", "BEFORE", "AFTER", "IN FORCE"], &rows)
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
            match (setting.value.as_str(), &setting.pending) {
                (value, Some(pending)) => format!("{value} ({pending} after a restart)").into(),
                ("", None) => "-".into(),
                (value, None) => value.into(),
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
