"""Planning: from a configuration to what a deployment will do, without any hardware."""

from ascend_serve.planning.deployment import DeploymentPlan
from ascend_serve.planning.planner import plan_deployment

__all__ = ["DeploymentPlan", "plan_deployment"]
