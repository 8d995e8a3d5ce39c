//! The check of the machines among which a scheduler chooses: a small run on each one that takes runs, all at the same time.

use futures_util::future::join_all;
use quire_executor::ExecutorNode;

use super::canary::CanaryRun;
use super::finding::DoctorFinding;

pub(super) async fn examine(run: &CanaryRun<'_>, nodes: &[ExecutorNode]) -> Vec<DoctorFinding> {
    let checks = nodes.iter().map(|node| examine_node(run, node));
    join_all(checks).await.into_iter().flatten().collect()
}

async fn examine_node(run: &CanaryRun<'_>, node: &ExecutorNode) -> Vec<DoctorFinding> {
    let ExecutorNode {
        id, name, state, ..
    } = node;
    let part = format!("node {name}");
    if !node.is_ready {
        let text = format!("the managers of the swarm do not hear from it ({state})");
        let advice = format!(
            "start its Docker engine, and check the network between it and the managers; or remove it with `docker node rm --force {id}`"
        );
        return vec![DoctorFinding::warning(&part, text, &advice)];
    }
    if !node.is_usable {
        let text = format!("it takes no runs ({state})");
        return vec![DoctorFinding::ok(&part, text)];
    }
    let advice = format!(
        "check on {name} that its Docker engine works, and that it reaches the appliance (`:ci {{:callback …}}`) and the registry of \
         the image; `docker node update --availability drain {id}` keeps runs away from it meanwhile"
    );
    let findings = run.findings(Some(id), &advice).await;
    let of_node = |finding: DoctorFinding| DoctorFinding {
        part: format!("{} on {name}", finding.part),
        ..finding
    };
    findings.into_iter().map(of_node).collect()
}
