//! The check of the machines among which a scheduler chooses: a small run on each one that takes runs, all at the same time.

use futures_util::future::join_all;
use quire_executor::ExecutorNode;

use super::canary::{CanaryImage, CanaryRun};
use super::finding::DoctorFinding;

pub(super) async fn examine(
    run: &CanaryRun<'_>,
    nodes: &[ExecutorNode],
    image: CanaryImage,
) -> Vec<DoctorFinding> {
    let checks = nodes.iter().map(|node| examine_node(run, node, image));
    let findings = join_all(checks).await.into_iter().flatten();
    no_usable_node(nodes).into_iter().chain(findings).collect()
}

/// What is said if runs wait because no node takes them.
fn no_usable_node(nodes: &[ExecutorNode]) -> Option<DoctorFinding> {
    let is_missing = !nodes.iter().any(|node| node.is_usable);
    is_missing.then(|| {
        DoctorFinding::failed(
            "nodes",
            "runs wait: no node of the swarm can execute them",
            "let one take runs with `docker node update --availability active NODE`, or start the Docker engine of one that is \
             down; `docker node ls` shows the state of each",
        )
    })
}

async fn examine_node(
    run: &CanaryRun<'_>,
    node: &ExecutorNode,
    image: CanaryImage,
) -> Vec<DoctorFinding> {
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
    // Whether another node has the image is not known: it could pull it.
    if image == CanaryImage::IfPresent && !node.is_own {
        let text = "no run was tried, because the image may not be on the node yet";
        return vec![DoctorFinding::warning(
            &part,
            text,
            "`doctor` pulls it there and tries a run",
        )];
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Grade;

    #[test]
    fn it_fails_if_no_node_takes_runs() {
        let node = |is_usable: bool| ExecutorNode {
            id: "1".to_owned(),
            name: "a".to_owned(),
            is_ready: true,
            is_own: true,
            is_usable,
            state: "ready, drain".to_owned(),
            tasks: 0,
            milli_cpus: 1000,
            memory: 1,
            engine: String::new(),
        };
        assert_eq!(no_usable_node(&[node(false), node(true)]), None);
        let finding = no_usable_node(&[node(false), node(false)]).unwrap();
        assert_eq!(finding.grade, Grade::Failed);
    }
}
