"""The claims of few-shot DAG."""

from medsynth_ext.methods.dag.claims.study import DAGStudy

__all__ = ["DAGStudy"]
