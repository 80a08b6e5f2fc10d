//! What can be permitted, and the roles that permit it: one table.

/// Something that one may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Permission {
    /// Create runs, and check what could be one.
    TaskSubmit,
    /// See runs, their events, values and artifacts.
    TaskRead,
    /// Pause, resume and cancel runs.
    TaskCancel,
    /// Approve and answer, and decide about steps in doubt.
    RunApprove,
    /// Let runs spend more.
    BudgetRaise,
    /// Name the agent `process`, which runs commands on this machine.
    ProcessRun,
    /// See agents.
    AgentRead,
    /// Register agents, change and remove them.
    AgentWrite,
    /// Do the work of a registered agent.
    AgentWork,
    /// See how the node does.
    SystemRead,
    /// All else: keys, audit, taking in and removing runs.
    SystemAdmin,
}

use Permission::{
    AgentRead, AgentWork, AgentWrite, BudgetRaise, ProcessRun, RunApprove, SystemAdmin, SystemRead,
    TaskCancel, TaskRead, TaskSubmit,
};

/// All there are.
pub(crate) const PERMISSIONS: [Permission; 11] = [
    TaskSubmit,
    TaskRead,
    TaskCancel,
    RunApprove,
    BudgetRaise,
    ProcessRun,
    AgentRead,
    AgentWrite,
    AgentWork,
    SystemRead,
    SystemAdmin,
];

/// What each role permits.
pub(crate) const ROLES: [(&str, &[Permission]); 6] = [
    ("viewer", &[TaskRead, AgentRead, SystemRead]),
    ("submitter", &[TaskSubmit, TaskRead, TaskCancel, AgentRead]),
    ("approver", &[TaskRead, RunApprove, BudgetRaise, AgentRead]),
    ("worker", &[AgentRead, AgentWork]),
    (
        "operator",
        &[
            TaskSubmit,
            TaskRead,
            TaskCancel,
            RunApprove,
            BudgetRaise,
            AgentRead,
            AgentWrite,
            AgentWork,
            SystemRead,
        ],
    ),
    ("admin", &PERMISSIONS),
];

impl Permission {
    /// Its name, as in keys and documents.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            TaskSubmit => "task.submit",
            TaskRead => "task.read",
            TaskCancel => "task.cancel",
            RunApprove => "run.approve",
            BudgetRaise => "budget.raise",
            ProcessRun => "process.run",
            AgentRead => "agent.read",
            AgentWrite => "agent.write",
            AgentWork => "agent.work",
            SystemRead => "system.read",
            SystemAdmin => "system.admin",
        }
    }
}

/// A set of permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Permissions(u16);

impl Permissions {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const ALL: Self = Self((1 << PERMISSIONS.len()) - 1);

    /// Whether all of `others` is in it.
    pub(crate) const fn include(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// What either permits.
    pub(crate) const fn or(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    pub(crate) const fn has(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u8) != 0
    }

    /// What any of `roles` permits; an unknown one is told.
    pub(crate) fn of_roles<'a>(roles: impl Iterator<Item = &'a str>) -> Result<Self, &'a str> {
        let mut all = Self::NONE;
        for role in roles {
            let (_, permits) = ROLES.iter().find(|(name, _)| *name == role).ok_or(role)?;
            permits.iter().for_each(|permission| all.0 |= 1 << *permission as u8);
        }
        Ok(all)
    }
}
