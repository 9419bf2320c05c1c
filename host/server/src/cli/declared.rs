//! `portcullis export`, `plan`, `apply`: a service or a tenant as one file that people review.
//!
//! Nothing here is known to the server: an export is read over the admin API, a plan is what the file has and the server has
//! not, and applying it is the same calls that the other commands make, each an entry of the audit. Each change names the
//! revision at which its record was read, so what was planned is what is applied.
//!
//! | module | holds |
//! |---|---|
//! | [`file`] | the file: what is in it, reading it with its faults, writing it |
//! | [`server`] | the same records as the server has them |
//! | [`plan`] | the steps from one to the other |
//! | [`apply`] | taking them |

mod apply;
mod file;
mod plan;
mod server;

use clap::Subcommand;
use portcullis_model::id::Id;

use self::apply::apply;
use self::file::File;
use self::plan::Plan;
use self::server::Found;
use super::confirm::Consent;
use super::{Common, Session};
use crate::error::Error;
use crate::input::{Inputs, Origin};
use crate::output::{self, Destination};

const EXPORT_HELP: &str = "\
The file is TOML and holds no secret and no digest. Users are in it without their names unless `--names` is given. A list \
that is not in a file is left alone when the file is applied, so a part of an export is a file too.

Examples:
  portcullis export tenant acme -o acme.toml
  portcullis export service shop -o shop.toml
  portcullis export tenant acme --no-keys";

/// Write a service or a tenant as one file
#[derive(clap::Args)]
#[command(after_long_help = EXPORT_HELP, arg_required_else_help = true)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    what: Exported,
}

#[derive(Subcommand)]
enum Exported {
    /// A service: hosts, prefix, upstream, accepted credentials, endpoints
    #[command(
        after_long_help = "Examples:\n  portcullis export service shop\n  portcullis export service shop -o shop.toml"
    )]
    Service {
        /// The service
        id: Id,
        #[command(flatten)]
        to: To,
    },
    /// A tenant: modules, limit, groups, applications, users, settings, keys without their secrets
    #[command(
        after_long_help = "Examples:\n  portcullis export tenant acme\n  portcullis export tenant acme --no-keys -o acme.toml"
    )]
    Tenant {
        /// The tenant
        id: Id,
        #[command(flatten)]
        to: To,
        /// Leave keys out
        #[arg(long)]
        no_keys: bool,
        /// With the names of users
        #[arg(long)]
        names: bool,
    },
}

#[derive(clap::Args)]
struct To {
    /// Where to [default: standard output]
    #[arg(short, long, value_name = "FILE", default_value = "-", hide_default_value = true)]
    output: Destination,
}

const PLAN_HELP: &str = "\
`+` is created, `~` changed, `-` deleted, `!` cannot be done by a file. Nothing is changed. What the server has and a list \
of the file has not is left alone unless `--prune` is given. Keys are not created by a file, for they need a secret.

The last line names the plan: `portcullis apply --plan NAME` does this and nothing else.

Examples:
  portcullis plan acme.toml
  portcullis plan acme.toml --prune";

/// Show what applying a file would change
#[derive(clap::Args)]
#[command(after_long_help = PLAN_HELP)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    from: From,
}

const APPLY_HELP: &str = "\
The changes are shown and confirmed first. They are made one after the other in the order of what they depend on, each with \
its entry in the audit; the first that is refused is the last, and it is told what was done before. A record that was \
changed since it was read is not changed.

Examples:
  portcullis apply acme.toml
  portcullis apply acme.toml --yes
  portcullis apply acme.toml --plan 5f1c0e7a9b3d2468 --yes";

/// Make a service or a tenant what a file says
#[derive(clap::Args)]
#[command(after_long_help = APPLY_HELP)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    from: From,
    /// Only this plan, by its name; a plan that is another by now is refused
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
    #[command(flatten)]
    consent: Consent,
}

#[derive(clap::Args)]
struct From {
    /// The file; `-` is standard input
    file: Origin,
    /// Delete what the server has and the lists of the file have not; keys are revoked
    #[arg(long)]
    prune: bool,
}

/// Writes a file.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn export(args: &ExportArgs) -> Result<(), Error> {
    let session = Session::open(&args.common)?;
    let (found, what, to) = match &args.what {
        Exported::Service { id, to } => (server::service(&session, id)?, format!("service `{id}`"), to),
        Exported::Tenant { id, to, no_keys, names } => {
            let mut found = server::tenant(&session, id, !no_keys)?;
            found.forget(*names);
            (found, format!("tenant `{id}`"), to)
        }
    };
    let file = found.into_file().ok_or_else(|| server::missing(&what))?;
    if session.json {
        return output::say_json(&file);
    }
    let text = file.to_toml(&what)?;
    match &to.output {
        Destination::Stdout => output::say(&text),
        Destination::File(_) => output::write_bytes(&to.output, text.as_bytes()),
    }
}

/// Shows what a file would change.
///
/// # Errors
/// As [`export`], and where the file is none.
pub(super) fn plan(args: &PlanArgs) -> Result<(), Error> {
    let session = Session::open(&args.common)?;
    let plan = planned(&session, &args.from)?;
    session.say(&plan.to_json(), || plan.to_text())
}

/// Makes the server what a file says.
///
/// # Errors
/// As [`plan`], and where nobody confirmed it or a step was refused.
pub(super) fn run_apply(args: &ApplyArgs) -> Result<(), Error> {
    let session = Session::open(&args.common)?;
    let plan = planned(&session, &args.from)?;
    apply(&session, &plan, args.plan.as_deref(), &args.consent)
}

fn planned(session: &Session, from: &From) -> Result<Plan, Error> {
    let file = File::read(&from.file, &mut Inputs::default())?;
    let found = match (&file.service, &file.tenant) {
        (Some(service), None) => server::service(session, &service.id)?,
        (None, Some(tenant)) => server::tenant(session, &tenant.id, tenant.keys.is_some())?,
        // A file with both or none is not read.
        (Some(_), Some(_)) | (None, None) => Found::default(),
    };
    Ok(Plan::between(&found, &file, from.prune))
}
