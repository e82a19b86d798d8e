//! How rows come into OVN and leave it: order, failures, losses, and everything that can go wrong between.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use drivers::network::{
    ChassisPriority, DnsSpec, FloatingIpSpec, NetworkError, NetworkSpec, Northbound, Owned, OwnedKind, PortSpec,
    PortUp, Result as DriverResult, RouterSpec, SecurityGroupSpec, SubnetSpec, fake::FakeNetwork,
};
use flow::BoxFuture;
use futures_util::stream::BoxStream;
use model::{
    Result,
    id::{FloatingIpId, NetworkId, PortId, ProjectId, RouterId, SecurityGroupId, SubnetId},
};
use serde_json::json;
use store::{
    Db,
    network::{
        Viewer, floating_ips,
        floating_ips::NewFloatingIp,
        networks,
        networks::NewNetwork,
        ports,
        ports::NewPort,
        routers,
        routers::{NewGateway, NewRouter},
        security_groups, subnets,
        subnets::NewSubnet,
    },
};
use testkit::{
    Kind,
    harness::{self, Options, Rest, Scenario},
};

use crate::{in_a_cloud, path, show};

#[tokio::test]
async fn refused_and_out_of_reach() {
    in_a_cloud(|world| async move {
        let away = || NetworkError::Unavailable { what: "a test", why: "away".into() };
        let (network, _) = world.network(&world.blue).await;
        let port = crate::id(&world.port(&world.blue, &network).await);
        let at = format!("ports/{port}");
        for verb in ["ensure_network", "ensure_port", "ensure_subnet_dhcp", "ensure_security_group"] {
            world.fake.fail_next(verb, away());
        }
        world.settle().await;
        world.engine.run_for(Duration::from_secs(60)).await.unwrap();
        assert!(world.fake.port(&port.as_str().into()).is_some(), "tried again");
        assert_eq!(world.doctor().await, Vec::<String>::new());
        // A refusal shows, and is tried again too.
        world.fake.fail_next("ensure_port", NetworkError::Rejected("a test".into()));
        world.blue.put(&path(&at), json!({"port": {"name": "x"}})).await.expect(200);
        world.settle().await;
        assert_eq!(show(&world.blue, &at).await["status"], "ERROR");
        world.engine.run_for(Duration::from_secs(120)).await.unwrap();
        assert_eq!(show(&world.blue, &at).await["status"], "DOWN");
    })
    .await;
}

#[tokio::test]
async fn a_lost_ovn_comes_back_whole() {
    in_a_cloud(|world| async move {
        let (network, _, _) = world.connected(&world.blue).await;
        let port = crate::id(&world.port(&world.blue, &network).await);
        let floating = json!({"floatingip": {"floating_network_id": world.public, "port_id": port}});
        let floating = crate::id(&crate::create(&world.blue, "floatingips", floating).await);
        world.settle().await;
        let before = world.fake.inventory().await.unwrap();
        assert_eq!(world.doctor().await, Vec::<String>::new());
        for owned in &before {
            forget(&world.fake, owned).await;
        }
        assert_eq!(world.fake.inventory().await.unwrap(), []);
        assert_eq!(world.doctor().await.len(), before.len());
        network::ensure_sweep(&world.db).await.unwrap();
        world.settle().await;
        world.engine.run_for(Duration::from_secs(60)).await.unwrap();
        assert_eq!(world.fake.inventory().await.unwrap(), before);
        assert_eq!(world.doctor().await, Vec::<String>::new());
        assert_eq!(show(&world.blue, &format!("floatingips/{floating}")).await["status"], "ACTIVE");
    })
    .await;
}

#[tokio::test]
async fn a_deleted_database_is_rebuilt_at_once() {
    in_a_cloud(|world| async move {
        let (network, _, _) = world.connected(&world.blue).await;
        world.port(&world.blue, &network).await;
        world.settle().await;
        let before = world.fake.inventory().await.unwrap();
        let resets = network::follow_resets((*world.db).clone(), Arc::new(world.fake.clone()));
        let lost = async {
            world.fake.lose_everything();
            // The sweep is woken by the loss, not by its own time.
            while world.settle().await.is_empty() {
                tokio::task::yield_now().await;
            }
            world.engine.run_for(Duration::from_secs(10)).await.unwrap();
        };
        tokio::select! {
            biased;
            () = resets => panic!("it runs for ever"),
            () = lost => {}
        }
        assert_eq!(world.fake.inventory().await.unwrap(), before);
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn strangers_in_ovn_are_removed() {
    in_a_cloud(|world| async move {
        let (network, _) = world.network(&world.blue).await;
        world.settle().await;
        let spec = NetworkSpec { id: NetworkId::new("stranger"), mtu: 1442, provider: None };
        world.fake.ensure_network(&spec).await.unwrap();
        let group = SecurityGroupSpec { id: SecurityGroupId::new("stranger"), stateful: true, rules: Vec::new() };
        world.fake.ensure_security_group(&group).await.unwrap();
        let findings = world.doctor().await;
        assert_eq!(findings.len(), 2, "{findings:?}");
        network::ensure_sweep(&world.db).await.unwrap();
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
        show(&world.blue, &format!("networks/{network}")).await;
    })
    .await;
}

async fn forget(fake: &FakeNetwork, owned: &Owned) {
    let id = owned.nacre_id.as_str();
    let done = match owned.kind {
        OwnedKind::Network => fake.remove_network(&id.into()).await,
        OwnedKind::Subnet => fake.remove_subnet_dhcp(&id.into()).await,
        OwnedKind::Port => fake.remove_port(&id.into()).await,
        OwnedKind::Router => fake.remove_router(&id.into()).await,
        OwnedKind::FloatingIp => fake.remove_floating_ip(&id.into()).await,
        OwnedKind::SecurityGroup => fake.remove_security_group(&id.into()).await,
        OwnedKind::Dns | OwnedKind::RouterPort => Ok(()),
    };
    done.unwrap();
}

/// OVN that can be out of reach.
#[derive(Clone, Default)]
struct Gated {
    fake: FakeNetwork,
    away: Arc<AtomicBool>,
}

impl Gated {
    fn call<'a>(&self, call: BoxFuture<'a, DriverResult<()>>) -> BoxFuture<'a, DriverResult<()>> {
        if self.away.load(SeqCst) {
            let away = NetworkError::Unavailable { what: "a test", why: "away".into() };
            return Box::pin(std::future::ready(Err(away)));
        }
        call
    }
}

macro_rules! gated {
    ($($verb:ident($name:ident: $kind:ty);)*) => {
        $(fn $verb<'a>(&'a self, $name: &'a $kind) -> BoxFuture<'a, DriverResult<()>> {
            // The fake acts when it is called, not when it is awaited.
            if self.away.load(SeqCst) { self.call(Box::pin(std::future::ready(Ok(())))) } else { self.fake.$verb($name) }
        })*
    };
}

impl Northbound for Gated {
    gated! {
        ensure_network(spec: NetworkSpec);
        remove_network(id: NetworkId);
        ensure_subnet_dhcp(spec: SubnetSpec);
        remove_subnet_dhcp(id: SubnetId);
        ensure_port(spec: PortSpec);
        remove_port(id: PortId);
        ensure_router(spec: RouterSpec);
        remove_router(id: RouterId);
        ensure_floating_ip(spec: FloatingIpSpec);
        remove_floating_ip(id: FloatingIpId);
        ensure_security_group(spec: SecurityGroupSpec);
        remove_security_group(id: SecurityGroupId);
        ensure_dns(spec: DnsSpec);
        remove_dns(id: NetworkId);
    }
    fn ensure_chassis_gateway<'a>(
        &'a self,
        id: &'a RouterId,
        chassis: &'a [ChassisPriority],
    ) -> BoxFuture<'a, DriverResult<()>> {
        self.fake.ensure_chassis_gateway(id, chassis)
    }
    fn inventory(&self) -> BoxFuture<'_, DriverResult<Vec<Owned>>> {
        self.fake.inventory()
    }
    fn watch_ports(&self) -> BoxStream<'static, PortUp> {
        self.fake.watch_ports()
    }
    fn connected(&self) -> bool {
        !self.away.load(SeqCst)
    }
}

/// One of everything.
async fn build(db: &Db) -> Result<()> {
    let project = ProjectId::new("p");
    network::bootstrap_external(db, &crate::external()).await?;
    let mut tx = db.begin().await?;
    let external = networks::default_external(&mut tx).await?.expect("the external network");
    let new = NewNetwork { id: "network".into(), ..NewNetwork::new(&project, "n") };
    let network = networks::create(&mut tx, &new).await?;
    let cidr = "10.0.0.0/24".parse().expect("a range");
    let new = NewSubnet { id: "subnet".into(), ..NewSubnet::new(&network, "s", cidr) };
    let subnet = subnets::create(&mut tx, &new).await?;
    let gateway = Some(NewGateway::on(&external.id));
    let new = NewRouter { id: "router".into(), gateway, ..NewRouter::new(&project, "r") };
    let router = routers::create(&mut tx, &new).await?;
    routers::add_subnet(&mut tx, &router.id, &subnet).await?;
    let new = NewPort { id: "port".into(), ..NewPort::new(&project, &network.id) };
    let port = ports::create(&mut tx, &new).await?;
    let new = NewFloatingIp {
        id: "floating-ip".into(),
        target: Some((port.id, None)),
        ..NewFloatingIp::new(&project, &external.id)
    };
    floating_ips::create(&mut tx, &new).await?;
    Ok(tx.commit().await?)
}

struct Everything(Gated);

impl harness::World for Everything {
    fn set_reachable<'a>(&'a self, _db: &'a Db, reachable: bool) -> BoxFuture<'a, Result<()>> {
        self.0.away.store(!reachable, SeqCst);
        Box::pin(std::future::ready(Ok(())))
    }

    fn delete<'a>(&'a self, db: &'a Db) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut tx = db.begin().await?;
            if networks::get(&mut tx, "network").await?.is_none() {
                return Ok(());
            }
            floating_ips::delete(&mut tx, &"floating-ip".into()).await?;
            ports::delete(&mut tx, &"port".into()).await?;
            for port in routers::interfaces(&mut tx, &"router".into()).await? {
                routers::remove_interface(&mut tx, &"router".into(), &port, None).await?;
            }
            routers::delete(&mut tx, &"router".into()).await?;
            networks::delete(&mut tx, &"network".into()).await?;
            let group = security_groups::default_of(&mut tx, &ProjectId::new("p")).await?.expect("a group");
            security_groups::delete(&mut tx, &group).await?;
            Ok(tx.commit().await?)
        })
    }

    fn check<'a>(&'a self, db: &'a Db, rest: Rest) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let findings = network::doctor(db, &self.0.fake).await.map_err(|e| format!("{e:?}"))?;
            if let Some(finding) = findings.first() {
                return Err(finding.to_string());
            }
            let mut conn = db.read().await.map_err(|e| e.to_string())?;
            let ports = ports::select(&Viewer::Admin).all(&mut conn, "r.id").await.map_err(|e| e.to_string())?;
            // Metadata, interface, gateway, floating IP, and the port itself; OVN's view has no port for an address.
            let owned = self.0.fake.inventory().await.map_err(|e| e.to_string())?;
            let wanted = match rest {
                Rest::Settled => (5, 10),
                Rest::Deleted => (0, 1),
            };
            if (ports.len(), owned.len()) == wanted {
                return Ok(());
            }
            Err(format!("{} ports and {owned:?} instead of {wanted:?}", ports.len()))
        })
    }
}

#[tokio::test]
async fn everything_survives_everything() {
    // One step at a time shows nothing of a database's locks: one of the two is enough, and the other tests run on both.
    let options = Options { databases: vec![Kind::Sqlite], ..Options::default() };
    let report = harness::run(&options, |db| {
        Box::pin(async move {
            let gated = Gated::default();
            build(db).await.expect("building");
            let northbound: Arc<dyn Northbound> = Arc::new(gated.clone());
            let machines = network::machines(&northbound, network::Options::default());
            Scenario { machines, world: Arc::new(Everything(gated)) }
        })
    })
    .await;
    println!("{} plays", report.plays);
}
